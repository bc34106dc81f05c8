from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from api.jobs.models import Job
from api.jobs.states import JobStatus
from api.work.models import WorkItem
from api.work.states import WorkState
from difftune_core.files import COMPUTED

Bench = Any  # the class of conftest.py


def unreachable(*_: Any) -> Any:
    raise OperationalError("SELECT 1", {}, Exception("the database is gone"))


def test_a_worker_forgets_what_others_left(bench: Bench) -> None:
    ended, paused = bench.job({"steps": 1}), bench.job({"steps": 1})
    with bench.database.write() as session:
        session.execute(update(WorkItem).values(state=WorkState.DONE))
        session.execute(update(Job).where(Job.id == ended).values(status=JobStatus.CANCELLED))
        session.execute(update(Job).where(Job.id == paused).values(status=JobStatus.PAUSED))
    waiting = bench.dataset({"crash": True}, ready=False)
    bench.settings = bench.settings.model_copy(update={"cpu_slots": 0})
    for subject in (ended, paused, waiting, "ds_unknown"):
        bench.workspace(subject).mkdir(parents=True)
    with bench.worker():
        pass
    assert [bench.workspace(s).exists() for s in (ended, paused, waiting, "ds_unknown")] == [False, True, True, False]


def test_a_worker_removes_caches_that_nothing_reads_once_they_are_old(bench: Bench) -> None:
    cache = bench.settings.data_dir / "cache"
    names = ("latents", "references", "computed-1", COMPUTED, "datasets", "text")
    for name in names:
        (cache / name / "key").mkdir(parents=True)
    for path in cache.rglob("*"):
        os.utime(path, (1.0, 1.0))
    (cache / "text" / "of a worker of the version before").mkdir()
    with bench.worker():
        pass
    assert [name for name in names if (cache / name).exists()] == [COMPUTED, "datasets", "text"]


def test_a_request_is_heard_when_the_bell_rings_not_at_the_next_heartbeat(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"heartbeat_s": 600.0, "lease_s": 1800.0})
    job_id = bench.job({"steps": 100_000, "step_s": 0.02, "every": 100_000})
    with bench.worker() as worker:
        bench.wait(lambda: bench.get(Job, job_id).step > 0)
        bench.cancel(job_id)
        worker.look()
        assert bench.wait_final(job_id).status == "cancelled"


def test_two_slots_work_side_by_side(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"gpu_slots": 2})
    first, second = (bench.job({"steps": 2000, "step_s": 0.02, "every": 10_000}) for _ in range(2))
    with bench.worker():
        bench.wait(lambda: bench.status(first) == bench.status(second) == "running")
        for job_id in (first, second):
            bench.cancel(job_id)
        assert {bench.wait_final(job_id).status for job_id in (first, second)} == {"cancelled"}


def test_a_ring_is_answered_before_the_next_poll(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"poll_s": 60.0, "heartbeat_s": 1.0})
    before = threading.active_count()  # other tests of this process may have left some
    with bench.worker() as worker:
        time.sleep(0.3)
        job_id = bench.job({"steps": 2})
        worker.look()
        assert bench.wait_final(job_id, timeout_s=10).status == "succeeded"
    bench.wait(lambda: threading.active_count() <= before)


def test_no_pipe_is_left_open(bench: Bench) -> None:
    with bench.worker():
        bench.wait_final(bench.job({"steps": 2}))
        before = pipes()
        for _ in range(2):
            bench.wait_final(bench.job({"steps": 2}))
        bench.wait(lambda: pipes() <= before)


def pipes() -> int:
    descriptors = Path("/proc/self/fd").iterdir()
    return sum(str(path.readlink()).startswith("pipe:") for path in descriptors if path.is_symlink())


def test_the_sign_of_life_stops_with_the_database(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sign = bench.settings.data_dir / "alive"
    bench.settings = bench.settings.model_copy(update={"alive_file": sign})
    monkeypatch.setattr("worker.alive._INTERVAL_S", 0.05)
    monkeypatch.setattr("worker.service._SILENT_POLLS", 5.0)

    def touched() -> bool:
        before = sign.stat().st_mtime_ns
        time.sleep(0.3)
        return sign.stat().st_mtime_ns > before

    with bench.worker():
        assert touched()
        monkeypatch.setattr("worker.service.take", unreachable)
        bench.wait(lambda: not touched())
        monkeypatch.undo()
        monkeypatch.setattr("worker.alive._INTERVAL_S", 0.05)


def test_a_worker_with_a_long_run_is_alive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sign = bench.settings.data_dir / "alive"
    bench.settings = bench.settings.model_copy(update={"alive_file": sign, "cpu_slots": 0})
    monkeypatch.setattr("worker.alive._INTERVAL_S", 0.05)
    monkeypatch.setattr("worker.service._SILENT_POLLS", 1.0)
    job = bench.job({"steps": 2000, "step_s": 0.02, "every": 10_000})
    with bench.worker():
        bench.wait(lambda: bench.status(job) == "running")
        time.sleep(0.5)  # longer than the slot may be silent
        before = sign.stat().st_mtime_ns
        bench.wait(lambda: sign.stat().st_mtime_ns > before, timeout_s=2)
        bench.cancel(job)
        bench.wait_final(job)
