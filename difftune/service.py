"""A running service, as every command speaks to it: OpenAI's package where it goes so far, plain HTTP beyond."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx2

if TYPE_CHECKING:
    import openai  # its import takes a second, and most commands do without

_TIMEOUT_S = 60.0
_STREAM_TIMEOUT_S = 60.0  # the server sends a comment at least every 15 s
_POLL_S = 0.5
_RETRIES = 20
_PAUSE_S = 1.0
_MAX_SIMPLE_BYTES = 64 * 2**20  # a larger archive is uploaded in parts of this size
_NAMED_FAULTS = 10
Heard = Callable[[int, int], None]
"""A function that is told how many bytes of how many are done."""


def unheard(_done: int, _total: int) -> None:
    """Hear nothing."""


class ServiceError(Exception):
    """The service is not there, or refuses; the message quotes it."""


class Service:
    """A service at an address, used as a context."""

    def __init__(self, url: str, key: str) -> None:
        """Ask nothing yet."""
        self.url, self.key = url.rstrip("/"), key
        headers = {"Authorization": f"Bearer {key}"}
        try:
            self.http = httpx2.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_S)
        except httpx2.InvalidURL as error:
            raise ServiceError(f"{url} is no address of a service: {error}") from None

    def __enter__(self) -> Self:
        """Use the service's connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.http.close()

    @cached_property
    def openai(self) -> openai.OpenAI:
        """OpenAI's own client of the same service."""
        import openai

        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key)

    def ask(self, path: str, *, method: str = "GET", **arguments: Any) -> dict[str, Any]:
        """Return what `path` answers; `arguments` are httpx's: `params`, `json`, `headers`.

        Raises:
            ServiceError: no service answers, or it refuses.
        """
        try:
            answer = self.http.request(method, path, **arguments)
            body = answer.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise ServiceError(f"{self.url} does not answer as a difftune service: {error}") from None
        if not isinstance(body, dict) or answer.is_error:
            detail = body.get("detail") if isinstance(body, dict) else None
            raise ServiceError(detail or f"{self.url} answers with status {answer.status_code}")
        return body

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield all that a list holds, page by page."""
        while True:
            page = self.ask(path, params=params)
            yield from page["data"]
            if not page["has_more"]:
                return
            params["after"] = page["last_id"]

    def upload(
        self,
        path: Path,
        heard: Heard = unheard,
        *,
        part_bytes: int = _MAX_SIMPLE_BYTES,
        fields: dict[str, Any] | None = None,
    ) -> str:
        """Upload an archive, in parts where it is larger than one, and return its id. `fields` go with it.

        Raises:
            ServiceError: it cannot be read, or the service refuses it.
        """
        try:
            size = path.stat().st_size
            if size <= part_bytes:
                with path.open("rb") as file:
                    form, files = {"purpose": "fine-tune", **(fields or {})}, {"file": (path.name, file)}
                    sent = self.ask("/v1/files", method="POST", data=form, files=files)
                heard(size, size)
                return str(sent["id"])
            return self._upload_in_parts(path, size, part_bytes, heard, fields or {})
        except OSError as error:
            raise ServiceError(f"{path} cannot be read: {error.strerror}") from None

    def _upload_in_parts(self, path: Path, size: int, part_bytes: int, heard: Heard, fields: dict[str, Any]) -> str:
        about = {"filename": path.name, "bytes": size, "purpose": "fine-tune", **fields}
        upload = self.ask("/v1/uploads", method="POST", json=about)["id"]
        digest, part_ids = hashlib.sha256(), []
        with path.open("rb") as file:
            while data := file.read(part_bytes):
                digest.update(data)
                part_ids.append(self._part(upload, data))
                heard(file.tell(), size)
        whole = {"part_ids": part_ids, "sha256": digest.hexdigest()}
        return str(self.ask(f"/v1/uploads/{upload}/complete", method="POST", json=whole)["file"]["id"])

    def _part(self, upload: str, data: bytes) -> str:
        """Send one part, again where the connection broke: a part that arrived twice is named once."""
        for _ in range(_RETRIES):
            try:
                answer = self.http.post(f"/v1/uploads/{upload}/parts", files={"data": ("part", data)})
            except httpx2.TransportError:
                time.sleep(_PAUSE_S)
                continue
            if answer.status_code in {408, 429, 503}:
                time.sleep(float(answer.headers.get("retry-after", _PAUSE_S)))
                continue
            if answer.is_error:
                raise ServiceError(answer.json().get("detail") or f"a part is refused with {answer.status_code}")
            return str(answer.json()["id"])
        raise ServiceError(f"a part of the upload {upload} did not arrive in {_RETRIES} tries")

    def validated(self, dataset_id: str) -> dict[str, Any]:
        """Wait until a data set was looked at and return it.

        Raises:
            ServiceError: it is invalid; the message names the files that are bad.
        """
        while (found := self.ask(f"/v1/datasets/{dataset_id}"))["status"] not in {"ready", "invalid"}:
            time.sleep(_POLL_S)
        if found["status"] == "invalid":
            raise ServiceError(self._why_invalid(found))
        return found

    def _why_invalid(self, dataset: dict[str, Any]) -> str:
        id_, name = dataset["id"], dataset["filename"]
        report = self.ask(f"/v1/datasets/{id_}/report")
        faults = report.get("errors") or []
        named = [f"  {fault['path'] or name}: {fault['message']}" for fault in faults[:_NAMED_FAULTS]]
        count = report.get("num_errors", len(faults))
        more = [f"  and {count - len(named)} more"] if count > len(named) else []
        reason = "" if faults else f": {(dataset['error'] or {}).get('message', 'it is invalid')}"
        advice = [f"it is kept as {id_}: `difftune datasets report {id_}` shows all, `... delete {id_}` removes it"]
        if dataset["on_bad_files"] == "refuse" and report.get("num_items"):
            advice.insert(0, "with --on-bad-files skip such files are left out and listed")
        return "\n".join([f"{name} cannot be used{reason}", *named, *more, *advice])

    def download(self, path: str, target: Path, sha256: str | None = None, heard: Heard = unheard) -> str:
        """Write what `path` gives (or leads to) to `target` and return its sha256; a cut download is taken up again.

        Raises:
            ServiceError: the service refuses, or other bytes came than `sha256` says.
        """
        partial = target.with_name(f".{target.name}.part")
        partial.unlink(missing_ok=True)
        for _ in range(_RETRIES):
            try:
                if self._fetch(path, partial, heard):
                    break
            except httpx2.TransportError:
                time.sleep(_PAUSE_S)
        else:
            raise ServiceError(f"{target.name} broke off {_RETRIES} times")
        with partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 is not None and found != sha256:
            partial.unlink()
            raise ServiceError(f"{target.name} has sha256 {found}, not {sha256}")
        partial.replace(target)
        return found

    def read(self, path: str) -> bytes:
        """Return what `path` gives (or leads to), which is small.

        Raises:
            ServiceError: no service answers, or it refuses.
        """
        try:
            answer = self.http.get(path, follow_redirects=True)
        except httpx2.HTTPError as error:
            raise ServiceError(f"{self.url} does not answer as a difftune service: {error}") from None
        if answer.is_error:
            raise ServiceError(_detail(answer))
        return answer.content

    def _fetch(self, path: str, partial: Path, heard: Heard) -> bool:
        """Return whether all that was missing of the file has come."""
        have = partial.stat().st_size if partial.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self.http.stream("GET", path, headers=headers, follow_redirects=True) as answer:
            if answer.is_error:
                answer.read()
                raise ServiceError(_detail(answer))
            if answer.status_code != httpx2.codes.PARTIAL_CONTENT:
                have = 0
            total = have + int(answer.headers.get("content-length", 0))
            with partial.open("ab" if have else "wb") as file:
                for chunk in answer.iter_raw():
                    file.write(chunk)
                    heard(file.tell(), total)
            return partial.stat().st_size >= total

    def events(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield a job's events from its first to its last; where the stream was cut it goes on by `Last-Event-ID`.

        Raises:
            ServiceError: there is no such job, or the stream broke too often.
        """
        last_id: str | None = None
        for _ in range(_RETRIES):
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
            url = f"/v1/fine_tuning/jobs/{job_id}/events"
            try:
                with self.http.stream("GET", url, headers=headers, timeout=_STREAM_TIMEOUT_S) as answer:
                    if answer.is_error:
                        answer.read()
                        raise ServiceError(_detail(answer))
                    for line in answer.iter_lines():
                        if line.startswith("data:"):
                            event: dict[str, Any] = json.loads(line.removeprefix("data:"))
                            last_id = event["id"]
                            yield event
                    return
            except httpx2.TransportError:
                time.sleep(_PAUSE_S)
        raise ServiceError(f"the event stream of {job_id} broke {_RETRIES} times")


def _detail(answer: httpx2.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    return str(body.get("detail") or f"{answer.request.url} answers with status {answer.status_code}")
