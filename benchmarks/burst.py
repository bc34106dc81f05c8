"""`python -m benchmarks.burst`: hundreds of writes at once, while a job trains and a reader polls.

On SQLite and PostgreSQL, with many idempotency keys and with one. Every answer must be 2xx, 409, 429 or 503 within 5 s,
the reader's within 1 s; clients that heed `Retry-After` must all get through, and the training must keep its lease.
Prints one JSON line; the exit status is 1 if anything of this is not so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import anyio
import httpx2

from benchmarks.nodes import images
from cli.demo.stack import DemoStack
from tests.servers import PostgresServer

JOBS = "/v1/fine_tuning/jobs"
MAX_ANSWER_S = 5.0
MAX_READ_S = 1.0
_FINE = {200, 409, 429, 503}
_GIVE_UP_S = 180.0
_TRAINING = {"max_steps": 200_000, "batch_size": 8, "checkpoint_every_steps": 200_000, "log_every_steps": 10_000}
_METHOD = {"type": "supervised"}
Call = dict[str, Any]


@dataclass
class Outcome:
    """What came of one burst."""

    first: Counter[int] = field(default_factory=Counter)
    """Answers to the first request of each client, by status."""
    slowest_s: float = 0.0
    """Seconds of the slowest answer of all."""
    through: int = 0
    """Clients whose request was carried out, or was refused by a 409 that says so, in the end."""
    through_s: float = 0.0
    ids: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Make the fields of the JSON line."""
        counts = {str(status): count for status, count in sorted(self.first.items())}
        times = {"slowest_s": round(self.slowest_s, 2), "through_s": round(self.through_s, 2)}
        return {"first": counts, "through": self.through, **times, **({"wrong": self.wrong[:3]} if self.wrong else {})}


async def burst(url: str, key: str, calls: list[Call]) -> Outcome:
    """Send all calls at once, and those again that are to come later, when they are to."""
    outcome, began = Outcome(), time.monotonic()

    async def client(http: httpx2.AsyncClient, call: Call) -> None:
        is_first = True
        while time.monotonic() - began < _GIVE_UP_S:
            sent = time.monotonic()
            answer = await http.request(**call)
            outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - sent)
            outcome.first[answer.status_code] += is_first
            is_first = False
            if answer.status_code not in _FINE:
                outcome.wrong.append(f"{answer.status_code} {answer.text[:200]}")
                return
            if "retry-after" not in answer.headers:
                outcome.through += 1
                if answer.status_code == httpx2.codes.OK:
                    outcome.ids.add(answer.json()["id"])
                return
            await anyio.sleep(float(answer.headers["retry-after"]))

    headers = {"authorization": f"Bearer {key}"}
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    made = httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits)
    async with made as http, anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(client, http, call)
    outcome.through_s = time.monotonic() - began
    return outcome


def calls_of_each_kind(training_file: str, job_id: str, upload_id: str, count: int) -> Iterator[tuple[str, list[Call]]]:
    """The bursts by name; of what takes an `Idempotency-Key` one with many and one with the same."""
    common: Call = {"model": "tiny-dit", "training_file": training_file}
    methods = [{"name": name, "method": _METHOD} for name in ("a", "b")]
    bodies: dict[str, Callable[[int], Call]] = {
        JOBS: lambda _: {**common, "method": _METHOD},
        "/v1/retention_sets": lambda n: {"model": "tiny-dit", "seed": n},
        "/v1/comparisons": lambda _: {**common, "methods": methods, "seeds": [0]},
        "/v1/uploads": lambda n: {"filename": f"{n}.zip", "bytes": 100, "purpose": "fine-tune"},
    }
    for path, body in bodies.items():
        name, stamp = path.rpartition("/")[2], time.time_ns()
        for keys, number in (("many", lambda n: n), ("one", lambda _: 0)):
            calls = [
                {
                    "method": "POST",
                    "url": path,
                    "json": body(number(n)),
                    "headers": {"Idempotency-Key": f"{keys}-{stamp}-{number(n)}"},
                }
                for n in range(count)
            ]
            yield f"{name}, {keys} keys" if keys == "many" else f"{name}, one key", calls
    verbs = ("pause", "resume", "cancel")
    yield "verbs", [{"method": "POST", "url": f"{JOBS}/{job_id}/{verbs[n % 3]}"} for n in range(count)]
    part = {"files": {"data": ("part", b"x" * 100)}}
    yield "parts", [{"method": "POST", "url": f"/v1/uploads/{upload_id}/parts", **part} for _ in range(count)]


def _read_on(url: str, key: str, path: str, orders: Connection) -> None:
    """The reader's process: poll until told to end; the times of its answers, infinite where it was refused."""
    times = []
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=60) as http:
        orders.send("reading")
        while not orders.poll(0.05):
            began = time.monotonic()
            status = http.get(path).status_code
            times.append(time.monotonic() - began if status == httpx2.codes.OK else math.inf)
    orders.send(times)


@contextmanager
def reader(url: str, key: str, path: str) -> Iterator[list[float]]:
    """Polls in a process of its own; how long each answer took, once the context has ended."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_read_on, args=(url, key, path, theirs))
    process.start()
    ours.recv()
    times: list[float] = []
    try:
        yield times
    finally:
        ours.send("end")
        times += ours.recv()
        process.join()


def _prepared(http: httpx2.Client, archive: bytes) -> tuple[str, str]:
    """A data set that is ready, and a job on it that trains."""
    file, form = {"file": ("images.zip", archive)}, {"purpose": "fine-tune"}
    file_id = http.post("/v1/files", files=file, data=form).raise_for_status().json()["id"]
    _wait(http, f"/v1/files/{file_id}", lambda file: file["status"] == "processed")
    body = {
        "model": "tiny-dit",
        "training_file": file_id,
        "method": {"type": "supervised", "supervised": {"hyperparameters": _TRAINING}},
    }
    job_id = http.post(JOBS, json=body).raise_for_status().json()["id"]
    _wait(http, f"{JOBS}/{job_id}", lambda job: job["status_details"]["phase"] == "training")
    return file_id, job_id


def _wait(http: httpx2.Client, path: str, until: Callable[[Any], bool]) -> None:
    deadline = time.monotonic() + _GIVE_UP_S
    while not until(found := http.get(path).raise_for_status().json()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path}: {found}")
        time.sleep(0.2)


class Stack(Protocol):
    """Where a service is, and a key for it."""

    url: str
    key: str


def measured(stack: Stack, count: int, archive: bytes | None = None) -> dict[str, Any]:
    """Measure all bursts on one running stack, whose job trains on `archive`."""
    headers = {"authorization": f"Bearer {stack.key}"}
    with httpx2.Client(base_url=stack.url, headers=headers, timeout=60) as http:
        file_id, training = _prepared(http, archive or images())
        other = http.post(JOBS, json={"model": "tiny-dit", "training_file": file_id}).json()["id"]
        upload = {"filename": "a.zip", "bytes": 10**6, "purpose": "fine-tune"}
        upload_id = http.post("/v1/uploads", json=upload).json()["id"]
        kinds: dict[str, Outcome] = {}
        with reader(stack.url, stack.key, f"{JOBS}/{training}") as times:
            for name, calls in calls_of_each_kind(file_id, other, upload_id, count):
                kinds[name] = anyio.run(burst, stack.url, stack.key, calls)
                sys.stderr.write(f"{name}: {kinds[name].report()}\n")
        job = http.get(f"{JOBS}/{training}").json()
    found = {
        "attempts": len(job["attempts"]),
        "status": job["status"],
        "reader": {"median_s": round(statistics.median(times), 3), "slowest_s": round(max(times), 3)},
        "kinds": {name: outcome.report() for name, outcome in kinds.items()},
    }
    ones = [outcome for name, outcome in kinds.items() if "one key" in name]
    held = len(job["attempts"]) == 1 and job["status"] == "running" and max(times) < MAX_READ_S
    all_fine = all(fine(outcome, count) for outcome in kinds.values()) and all(len(one.ids) == 1 for one in ones)
    return {**found, "ok": held and all_fine}


def fine(outcome: Outcome, count: int) -> bool:
    """Return whether every answer was one that it may be, in time, and everybody got through."""
    return not outcome.wrong and outcome.slowest_s < MAX_ANSWER_S and outcome.through == count


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.burst", description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    for database in asked.databases:
        with (
            tempfile.TemporaryDirectory() as folder,
            _database(database, Path(folder)),
            DemoStack(Path(folder) / "data") as stack,
        ):
            found[database] = measured(stack, asked.requests)
    ok = all(part["ok"] for part in found.values())
    line = {"benchmark": "burst", "requests": asked.requests, "cores": os.cpu_count(), "ok": ok, **found}
    sys.stdout.write(json.dumps(line) + "\n")
    return 0 if ok else 1


@contextmanager
def _database(name: str, folder: Path) -> Iterator[None]:
    with nullcontext() if name == "sqlite" else _postgresql(folder / "postgresql") as url:
        if url is not None:
            os.environ["DIFFTUNE_DATABASE_URL"] = url
        try:
            yield
        finally:
            os.environ.pop("DIFFTUNE_DATABASE_URL", None)


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    folder.parent.chmod(0o755)
    folder.mkdir()
    server = PostgresServer(folder)
    server.start()
    try:
        yield server.url()
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
