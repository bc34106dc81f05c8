"""Surroundings that fail for a while: a clear reason, nothing lost, and the work goes on by itself afterwards."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from api.app import create_app
from api.db import Database
from api.jobs.models import Job
from api.storage import LocalStore, StoreError
from api.work.models import WorkItem

Bench = Any  # the class of conftest.py
ROOM = 4 << 20


@pytest.fixture
def small_disk(bench: Bench) -> Iterator[Path]:
    """The object folder on a file system of 4 MB."""
    folder = bench.settings.data_dir / "objects"
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "difftune-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    (folder / ".incoming").mkdir()
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / ".incoming" / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def waits_for(bench: Bench, job_id: str, reason: str) -> Callable[[], bool]:
    return lambda: reason in bench.reasons(job_id) and bench.get(Job, job_id).recoveries >= 1


def test_a_full_disk_is_named_and_the_job_goes_on_when_there_is_room(bench: Bench, small_disk: Path) -> None:
    job_id = bench.job({"steps": 12, "every": 5})
    filler = fill(small_disk)
    with TestClient(create_app(bench.settings)) as client:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert answer.json()["checks"] == {"database": "ok", "store": "no room left"}
        with bench.worker():
            bench.wait(waits_for(bench, job_id, "disk_full"))
            filler.unlink()
            job = bench.wait_final(job_id)
        assert client.get("/readyz").status_code == 200
    assert (job.status, job.step) == ("succeeded", 12)
    assert bench.steps(job_id) == [5, 10, 12]
    assert list((small_disk / ".incoming").iterdir()) == []


def test_an_upload_onto_a_full_disk_is_refused_and_leaves_nothing(small_disk: Path) -> None:
    store = LocalStore(small_disk, b"", "http://localhost")
    store.put_stream("a/b", [b"before"])
    filler = fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        store.put_stream("a/c", [bytes(1 << 20)] * 2)
    filler.unlink()
    assert [info.key for info in store.list("")] == ["a/b"]
    assert list((small_disk / ".incoming").iterdir()) == []


def test_a_store_that_fails_for_a_while_loses_no_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the attempts that a crash would have: an outage does not count against the job."""
    put, failures = LocalStore.put_file, iter(range(5))

    def failing(self: LocalStore, key: str, path: Path, **options: Any) -> Any:
        if next(failures, None) is not None:
            raise StoreError("the object store refused it: SlowDown")
        return put(self, key, path, **options)

    monkeypatch.setattr(LocalStore, "put_file", failing)
    monkeypatch.setattr("worker.run._UPLOAD_TRIES", 1)
    job_id = bench.job({"steps": 12, "every": 5})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.status, job.step) == ("succeeded", 12)
    assert bench.reasons(job_id).count("store_unavailable") == 5
    assert bench.steps(job_id) == [5, 10, 12]


def test_a_database_that_is_gone_longer_than_the_lease_loses_no_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.hurry()
    job_id = bench.job({"steps": 40, "every": 5, "step_s": 0.05})
    gone = False
    write = Database.write

    def refusing(self: Database) -> Any:
        if gone:
            raise OperationalError("BEGIN", {}, Exception("connection refused"))
        return write(self)

    monkeypatch.setattr(Database, "write", refusing)
    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).step >= 5)
        gone = True
        time.sleep(1.6 * bench.settings.lease_s)
        gone = False
        sweeping = bench.process("sweep")
        job = bench.wait_final(job_id)
        sweeping.terminate()
    assert (job.status, job.step) == ("succeeded", 40)
    assert bench.steps(job_id) == list(range(5, 41, 5))


@pytest.mark.parametrize("shift_s", [3600.0, -3600.0])
def test_a_worker_whose_clock_is_an_hour_off_neither_loses_nor_doubles_a_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, shift_s: float
) -> None:
    """Leases are judged by the database's clock, and a worker's own patience by its monotonic one."""
    now = time.time
    job_id = bench.job({"steps": 12, "every": 5})
    monkeypatch.setattr(time, "time", lambda: now() + shift_s)
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.status, job.recoveries) == ("succeeded", 0)
    assert bench.reasons(job_id) == ["succeeded"]
    assert bench.get(WorkItem, bench.item(job_id).id).fence == 1
