"""Users in a storm: they submit until they are told yes, as clients that retry do, and remember what they were told."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import httpx2

_MODEL = "tiny-dit"
_TIMEOUT_S = 5.0
_RETRY_S = 0.3
_TWICE = 0.2  # of requests are sent again although they were answered


class Users(threading.Thread):
    """Submit `count` jobs, about `rate` a second, each under a key of its own until it is acknowledged."""

    def __init__(self, url: str, key: str, *, count: int, rate: float, seed: int) -> None:
        """Make a client; nothing is sent yet."""
        super().__init__(name="users", daemon=True)
        self.acknowledged: dict[str, set[str]] = {}
        """Job ids that were answered, by idempotency key."""
        self.refusal = ""
        """Why the client gave up: what it had been told to be there was not."""
        self._count = count
        self._pause_s = 1.0 / rate
        self._rng = random.Random(seed)  # noqa: S311  # no secret
        self._http = httpx2.Client(base_url=url, timeout=_TIMEOUT_S, headers={"authorization": f"Bearer {key}"})

    def run(self) -> None:
        """Submit everything, or as much as is not refused."""
        try:
            self._submit_all()
        except RuntimeError as error:
            self.refusal = str(error)
        finally:
            self._http.close()

    def _submit_all(self) -> None:
        file_id = self._insist(lambda: self._upload())["id"]
        for number in range(self._count):
            key = f"storm-{number}"
            body = {"model": _MODEL, "training_file": file_id, "method": {"type": "supervised"}, "seed": number}
            for _ in range(1 + (self._rng.random() < _TWICE)):
                job = self._insist(lambda key=key, body=body: self._submit(key, body))
                self.acknowledged.setdefault(key, set()).add(job["id"])
            time.sleep(self._pause_s)

    def _upload(self) -> httpx2.Response:
        return self._http.post("/v1/files", files={"file": ("images.zip", b"a plan")}, data={"purpose": "fine-tune"})

    def _submit(self, key: str, body: dict[str, Any]) -> httpx2.Response:
        return self._http.post("/v1/fine_tuning/jobs", json=body, headers={"Idempotency-Key": key})

    def _insist(self, send: Any) -> dict[str, Any]:
        while True:
            try:
                answer = send()
                if answer.is_success:
                    return dict(answer.json())
                if answer.is_client_error:
                    raise RuntimeError(f"refused: {answer.text[:500]}")
            except httpx2.HTTPError:
                pass
            time.sleep(_RETRY_S)
