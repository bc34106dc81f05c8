"""Workers and sweeps as the processes they are: killed, frozen, drained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.jobs.models import Checkpoint, Event, Job
from api.queue import Doorbell

pytestmark = pytest.mark.both_databases

Bench = Any  # the class of conftest.py
Alive = Callable[[int], bool]
LONG = {"steps": 100_000, "every": 5, "step_s": 0.02}


def thread_states(pid: int) -> set[str]:
    return {path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")}


def test_importing_a_worker_loads_neither_torch_nor_the_web(tmp_path: Path) -> None:
    code = "import worker.app, worker.sweep, worker.__main__, sys; print({'torch', 'fastapi'} & set(sys.modules))"
    environment = {**os.environ, "DIFFTUNE_DATA_DIR": str(tmp_path / "none")}
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, check=True)
    assert answer.stdout.strip() == b"set()"
    assert not (tmp_path / "none").exists()


@pytest.mark.long
def test_a_killed_worker_leaves_no_child_and_its_job_goes_on_elsewhere(bench: Bench, is_alive: Alive) -> None:
    bench.hurry()
    job_id = bench.job({"steps": 120, "every": 5, "step_s": 0.02})
    first = bench.process()
    bench.wait(lambda: len(bench.steps(job_id)) >= 2)
    pid = bench.child_pid(job_id)
    first.send_signal(signal.SIGKILL)
    first.wait()
    bench.wait(lambda: not is_alive(pid), timeout_s=2)
    reached = max(bench.steps(job_id))
    assert bench.status(job_id) == "running"
    bench.process("sweep")
    bench.process()
    job = bench.wait_final(job_id)
    assert (job.status, job.recoveries) == ("succeeded", 1)
    assert bench.reasons(job_id) == ["worker_lost", "succeeded"]
    fences = {row.step: row.fence for row in bench.rows(Checkpoint, job_id)}
    assert fences[reached] == 1
    assert fences[120] == 2


def test_sigterm_drains_and_leaves_nothing_running(bench: Bench, is_alive: Alive) -> None:
    job_id = bench.job(LONG)
    worker = bench.process()
    bench.wait(lambda: bench.steps(job_id))
    pid = bench.child_pid(job_id)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=10) == 0
    assert not is_alive(pid)
    assert bench.status(job_id) == "queued"
    assert bench.reasons(job_id) == ["drain"]


@pytest.mark.long
def test_a_frozen_worker_is_replaced_and_wakes_up_harmless(bench: Bench, is_alive: Alive) -> None:
    """Two workers on one machine: the second takes the workspace from the first one's trainer, which still runs.

    Leases are long enough that beside other tests a worker that is only slow keeps its own; should one lose it all the
    same, the job is recovered once more, and nothing else may change.
    """
    bench.settings = bench.settings.model_copy(update={"lease_s": 8.0, "heartbeat_s": 0.5})
    job_id = bench.job(LONG)
    frozen = bench.process()
    bench.wait(lambda: bench.steps(job_id))
    pid = bench.child_pid(job_id)
    with bench.database.write() as session:
        session.connection()  # takes SQLite's one write lock: frozen while it held that, a worker would stop everybody
        frozen.send_signal(signal.SIGSTOP)
        bench.wait(lambda: thread_states(frozen.pid) == {"T"})  # its other threads run on until one has been scheduled
    before = max(bench.steps(job_id))
    bench.process("sweep")
    bench.process()
    bench.wait(lambda: bench.get(Job, job_id).recoveries >= 1)
    bench.wait(lambda: not is_alive(pid))
    bench.wait(lambda: bench.item(job_id).fence >= 2 and bench.child_pid(job_id) != pid)
    frozen.send_signal(signal.SIGCONT)
    reached = max(bench.steps(job_id))
    bench.wait(lambda: max(bench.steps(job_id)) > reached + 10)
    *lost, running = bench.reasons(job_id)
    assert running is None
    assert set(lost) == {"worker_lost"}
    assert max(row.step for row in bench.rows(Checkpoint, job_id) if row.fence == 1) == before
    bench.cancel(job_id)
    bench.wait_final(job_id)
    told = [event.data["step"] for event in bench.rows(Event, job_id) if event.type == "metrics"]
    assert sorted(told) == sorted(set(told)), "no step was told of twice"


def test_a_message_wakes_a_worker_and_none_piles_up(bench: Bench, database_kind: str) -> None:
    if database_kind != "sqlite":
        pytest.skip("of the broker that is a folder")
    bench.settings = bench.settings.model_copy(update={"poll_s": 30.0, "heartbeat_s": 5.0})
    messages = bench.settings.data_dir / "broker" / "messages"
    doorbell = Doorbell(bench.settings, bench.database)
    for _ in range(3):  # while nobody listens
        assert doorbell.ring()
    (messages / "0.difftune.msg").write_text("torn")
    bench.process()
    bench.wait(lambda: not list(messages.iterdir()))
    job_id = bench.job({"steps": 2})
    began = time.monotonic()
    assert doorbell.ring()
    assert bench.wait_final(job_id).status == "succeeded"
    assert time.monotonic() - began < 10
    assert bench.item(job_id).rung_at is not None
    bench.wait(lambda: not list(messages.iterdir()))


def test_a_broker_that_is_away_delays_nothing_for_long(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    assert Doorbell(bench.settings, bench.database).ring() is False
    worker = bench.process()
    assert bench.wait_final(bench.job({"steps": 2})).status == "succeeded"
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=10) == 0
