"""`python -m benchmarks.pages`: what each page of the dashboard costs where a tenant has much.

The rows are written directly: 5,000 jobs in all states, two checkpoints of each that has succeeded, one job with
100,000 points of its curves and 2,000 events, and a data set of 100,000 images in 1,000 classes. Seconds are of the
API's CPU, a page's mean over several requests. Prints one JSON line; the exit status is 1 if a page costs `MAX_S` or
more.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import insert, select, update

from api.datasets.models import Dataset
from api.db import Base
from api.ids import new_id
from api.jobs.models import Checkpoint, Event, Job, Metric
from api.jobs.states import JobStatus
from api.keys import service as keys
from api.work.models import WorkItem
from benchmarks.api import cpu_s, server
from benchmarks.harness.lines import tell
from benchmarks.nodes import TENANT, Cluster, environment_of, images
from tests.servers import free_port

MAX_S = 0.3
_STATES = {JobStatus.RUNNING: 20, JobStatus.QUEUED: 480, JobStatus.FAILED: 500, JobStatus.SUCCEEDED: 4000}
_CURVES = ("train_loss", "target_loss", "retention_loss", "learning_rate", "grad_norm")
_POINTS, _EVENTS = 20_000, 2_000
_ITEMS, _CLASSES = 100_000, 1_000
_AT_ONCE = 1_000


def written(cluster: Cluster, rows: type[Base], values: Iterator[Mapping[str, Any]]) -> None:
    """Insert rows, some at a time."""
    held: list[Mapping[str, Any]] = []
    for one in values:
        held.append(one)
        if len(held) == _AT_ONCE:
            _insert(cluster, rows, held)
            held = []
    _insert(cluster, rows, held)


def _insert(cluster: Cluster, rows: type[Base], values: list[Mapping[str, Any]]) -> None:
    if values:
        with cluster.database.write() as session:
            session.execute(insert(rows), values)


def copied(row: Base, **changed: Any) -> dict[str, Any]:
    """The values of a row, by attribute, with some changed."""
    attributes = row.__mapper__.column_attrs.keys()
    return {name: getattr(row, name) for name in attributes} | changed


def jobs(cluster: Cluster, dataset: str) -> list[str]:
    """Write jobs in all states with what belongs to them; their ids, those that have succeeded last."""
    first = cluster.submit(dataset, {})
    with cluster.database.read() as session:
        job = session.get_one(Job, first)
        item = session.scalars(select(WorkItem).where(WorkItem.subject_id == first)).one()
        state = [status for status, count in _STATES.items() for _ in range(count)]
        ids = [new_id("ftjob") for _ in state]
        tuned = {id_: new_id("ckpt") for id_, status in zip(ids, state, strict=True) if status == JobStatus.SUCCEEDED}
        waiting = [id_ for id_, status in zip(ids, state, strict=True) if status == JobStatus.QUEUED]
        rows = [
            copied(job, id=id_, status=status, suffix=f"run-{number}", fine_tuned_model=tuned.get(id_))
            for number, (id_, status) in enumerate(zip(ids, state, strict=True))
        ]
        items = [copied(item, id=new_id("work"), subject_id=id_) for id_ in waiting]
    written(cluster, Job, iter(rows))
    written(cluster, WorkItem, iter(items))
    written(cluster, Checkpoint, checkpoints(tuned))
    return ids


def checkpoints(tuned: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Two of each job, the result last."""
    for job_id, id_ in tuned.items():
        for step, one in ((150, new_id("ckpt")), (300, id_)):
            file = {"name": "model.safetensors", "key": f"jobs/{job_id}/1/{step}", "bytes": 1, "sha256": "a" * 64}
            names = {"id": one, "tenant_id": TENANT, "job_id": job_id, "step": step, "fence": 1, "name": f"step-{step}"}
            yield {**names, "files": [file], "resume_available": True, "created_at": time.time()}


def history(cluster: Cluster, job_id: str) -> None:
    """Write a long job's points and events."""
    at = {"job_id": job_id, "created_at": time.time()}
    points = ((name, step) for name in _CURVES for step in range(1, _POINTS + 1))
    written(cluster, Metric, ({**at, "name": name, "step": step, "value": 1 / step} for name, step in points))
    told = {**at, "level": "info", "type": "message", "message": "Saved a checkpoint", "data": None}
    written(cluster, Event, ({**told, "number": number} for number in range(1, _EVENTS + 1)))
    with cluster.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(last_event=_EVENTS, step=_POINTS))


def dataset(cluster: Cluster) -> str:
    """Write a large data set: the file is small, the list of its images is not."""
    id_ = cluster.dataset(images())
    names = [f"class-{number:04}" for number in range(_CLASSES)]

    def lines() -> Iterator[bytes]:
        for number in range(_ITEMS):
            name = names[number * _CLASSES // _ITEMS]
            item = {"path": f"{name}/{number}.png", "class_name": name, "width": 512, "height": 512}
            yield json.dumps({**item, "bytes": 400_000, "format": "PNG", "sha256": f"{number:064x}"}).encode() + b"\n"

    stored = cluster.store.put_stream(f"datasets/{id_}/items.jsonl", lines())
    counts = {"class_counts": dict.fromkeys(names, _ITEMS // _CLASSES), "form": "class_folders"}
    found = {"num_items": _ITEMS, "class_names": names, "items_key": stored.key, "report": counts}
    with cluster.database.write() as session:
        session.execute(update(Dataset).where(Dataset.id == id_).values(**found))
    return id_


class Browser:
    """One connection that has logged in."""

    def __init__(self, port: int, token: str) -> None:
        """Log in with a key."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        form = {"content-type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", "/login", urlencode({"key": token}), form)
        answer = self._connection.getresponse()
        answer.read()
        self._cookie = str(answer.headers["set-cookie"]).partition(";")[0]

    def get(self, path: str) -> bytes:
        """The page of a path."""
        self._connection.request("GET", path, headers={"cookie": self._cookie, "accept": "text/html"})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:  # noqa: PLR2004  HTTP's
            raise RuntimeError(f"{path}: {answer.status} {body[:500]!r}")
        return body


def cost_s(browser: Browser, pid: int, path: str, count: int) -> float:
    """CPU of the API for one page."""
    browser.get(path)
    before = cpu_s(pid)
    for _ in range(count):
        browser.get(path)
    return round((cpu_s(pid) - before) / count, 4)


def measured(folder: Path, count: int) -> dict[str, float]:
    """Seconds by page, on a service of its own without workers."""
    cluster = Cluster(folder, port=free_port())
    large = dataset(cluster)
    ids = jobs(cluster, large)
    done = ids[-1]
    history(cluster, done)
    with cluster.database.write() as session:
        _, token = keys.create(session, tenant_id=TENANT, name="benchmark")
        result = session.get_one(Job, done).fine_tuned_model
    pages = {
        "overview": "/",
        "jobs": "/jobs",
        "jobs, far behind": f"/jobs?status=succeeded&after={ids[-2000]}",
        "job": f"/jobs/{done}",
        "job, waiting": f"/jobs/{ids[400]}",
        "new job": "/jobs/new",
        "data sets": "/datasets",
        "data set": f"/datasets/{large}",
        "comparisons": "/comparisons",
        "jobs side by side": "/comparisons/jobs?" + urlencode({"job": [done, *ids[-6:-1]]}, doseq=True),
        "try it": f"/images?model={result}",
        "models": "/models",
        "more": "/more",
    }
    environment, log = environment_of(cluster.settings), folder / "api.log"
    with server([sys.executable, "-m", "api"], environment, cluster.settings.port, log) as pid:
        browser = Browser(cluster.settings.port, token)
        if after := re.search(r"\?after=(item_\d+)", browser.get(pages["data set"]).decode()):
            pages["data set, next page"] = f"/datasets/{large}?after={after[1]}"
        found = {name: cost_s(browser, pid, path, count) for name, path in pages.items()}
    cluster.close()
    return found


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--requests", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="a file that the line is appended to")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measured(Path(folder), asked.requests)
    is_quick = max(seconds.values()) < MAX_S
    tell({"benchmark": "pages", "ok": is_quick, "cpu_s": seconds}, asked.keep)
    return 0 if is_quick else 1


if __name__ == "__main__":
    sys.exit(main())
