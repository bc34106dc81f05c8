"""Pause, resume, preemption; and the ends that a supervisor brings about by itself."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from api.errors import ConflictError
from api.jobs.models import Checkpoint, Event, Job
from api.work.states import WorkState
from worker.memory import resident_bytes
from worker.sweep import Sweep

Bench = Any  # the class of conftest.py


LONG = {"steps": 4000, "every": 100_000, "step_s": 0.02}


@pytest.mark.both_databases
def test_pause_saves_and_frees_the_slot_and_resume_goes_on_there(bench: Bench) -> None:
    job_id = bench.job({"steps": 250, "every": 100_000, "step_s": 0.02})
    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).step > 3)
        bench.pause(job_id)
        assert bench.status(job_id) == "pausing"
        bench.wait(lambda: bench.status(job_id) == "paused")
        assert bench.item(job_id).state == WorkState.DONE
        other = bench.job({"steps": 2})
        assert bench.wait_final(other).status == "succeeded", "the slot is free"
        bench.resume(job_id)
        job = bench.wait_final(job_id)
    assert (job.status, job.recoveries) == ("succeeded", 0)
    assert bench.reasons(job_id) == ["paused", "succeeded"]
    first, second = bench.attempts(job_id)
    assert first.changed is None
    assert (second.fence, second.start_step, second.changed) == (2, first.end_step, [])
    assert {c.step: c.fence for c in bench.rows(Checkpoint, job_id)} == {first.end_step: 1, 250: 2}
    [told] = [e.data for e in bench.rows(Event, job_id) if e.type == "resumed"]
    assert told == {"step": first.end_step, "exact": True, "changed": []}


def test_a_resume_that_cannot_be_exact_says_why(bench: Bench) -> None:
    job_id = bench.job({"steps": 250, "every": 100_000, "step_s": 0.02, "changed": ["torch"]})
    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).step > 3)
        bench.pause(job_id)
        bench.wait(lambda: bench.status(job_id) == "paused")
        bench.resume(job_id)
        bench.wait_final(job_id)
    assert bench.attempts(job_id)[-1].changed == ["torch"]
    [told] = [e for e in bench.rows(Event, job_id) if e.type == "resumed"]
    assert told.level == "warn"
    assert "torch changed" in told.message


def test_a_job_that_waits_is_paused_at_once_and_keeps_its_fence(bench: Bench) -> None:
    job_id = bench.job(LONG)
    bench.pause(job_id)
    assert bench.status(job_id) == "paused"
    with pytest.raises(ConflictError, match="is paused"):
        bench.pause(job_id)
    bench.resume(job_id)
    assert bench.status(job_id) == "resuming"
    bench.pause(job_id)
    assert bench.status(job_id) == "paused"
    bench.cancel(job_id)
    assert bench.status(job_id) == "cancelled"
    with pytest.raises(ConflictError, match="cancelled"):
        bench.resume(job_id)


def test_a_paused_job_whose_worker_is_lost_meanwhile_is_paused(bench: Bench) -> None:
    bench.hurry()
    job_id, sweep = bench.job({"steps": 4000, "every": 5, "step_s": 0.02}), Sweep(bench.settings)
    worker = bench.process()
    bench.wait(lambda: bench.steps(job_id))
    worker.kill()
    worker.wait()
    bench.pause(job_id)
    bench.wait(sweep.recover)
    sweep.close()
    assert bench.status(job_id) == "paused"


@pytest.mark.both_databases
def test_more_important_work_takes_the_slot_and_gives_it_back(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"preempt_after_s": 0.3})
    low = bench.job({"steps": 120, "every": 100_000, "step_s": 0.02})
    sweep = Sweep(bench.settings)
    with bench.worker():
        bench.wait(lambda: bench.get(Job, low).step > 3)
        high = bench.job({"steps": 20, "step_s": 0.02}, priority=10)
        bench.wait(sweep.preempt)
        assert bench.wait_final(high).status == "succeeded"
        job = bench.wait_final(low)
    sweep.close()
    assert (job.status, job.recoveries) == ("succeeded", 1)
    assert bench.reasons(low) == ["preempted", "succeeded"]
    saved, went_on = bench.attempts(low)
    assert went_on.start_step == saved.end_step > 3
    assert bench.attempts(high)[0].ended_at < went_on.started_at


def test_a_child_that_stands_still_is_ended_and_its_attempt_counted(bench: Bench) -> None:
    # a supervisor that is slow for twice as long gives up its lease, and a busy machine is slow
    bench.settings = bench.settings.model_copy(update={"stall_s": 2.5, "max_attempts": 2})
    job_id = bench.job({"steps": 20, "every": 100, "stall_at": 3})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.status, job.error_code) == ("failed", "stalled")
    assert bench.reasons(job_id) == ["stalled", "stalled"]


def test_a_child_that_holds_too_much_memory_is_ended_and_the_next_job_runs(bench: Bench) -> None:
    assert resident_bytes(os.getsid(0)) > 10_000_000
    bench.settings = bench.settings.model_copy(update={"trainer_memory_bytes": 150_000_000})
    job_id = bench.job({"steps": 20, "every": 100, "hoard_at": 3, "hoard_bytes": 300_000_000})
    with bench.worker():
        job = bench.wait_final(job_id)
        assert bench.wait_final(bench.job({"steps": 2})).status == "succeeded"
    assert (job.status, job.error_code) == ("failed", "out_of_memory")
    assert "150,000,000" in job.error_message
    assert bench.reasons(job_id) == ["out_of_memory"] * 2


def test_a_stuck_supervisor_loses_its_lease(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alive, renewing, and getting nowhere: its heart stops, and the sweep gives the job to another."""
    from worker.kinds.training import Training

    bench.settings = bench.settings.model_copy(update={"stall_s": 1.5, "lease_s": 4.0})
    stuck = threading.Event()

    def prepare(_: Training) -> None:
        stuck.wait(30)

    monkeypatch.setattr(Training, "prepare", prepare)
    job_id, sweep = bench.job({"steps": 5}), Sweep(bench.settings)
    with bench.worker():
        bench.wait(sweep.recover)
        monkeypatch.undo()
        stuck.set()
        bench.wait(lambda: bench.item(job_id).fence >= 2)
    sweep.close()
    assert bench.reasons(job_id)[0] == "worker_lost"


def test_a_damaged_checkpoint_is_passed_over_in_the_store_and_told_of(bench: Bench, tmp_path: Path) -> None:
    job_id = bench.job({"steps": 60, "every": 10, "step_s": 0.02})
    with bench.worker():
        bench.wait(lambda: len(bench.steps(job_id)) >= 2)
        bench.pause(job_id)
        bench.wait(lambda: bench.status(job_id) == "paused")
    bench.workspace(job_id).rename(tmp_path / "elsewhere")
    *_, before, newest = sorted(bench.rows(Checkpoint, job_id), key=lambda c: c.step)
    key = next(f["key"] for f in newest.files if f["name"] == "resume.safetensors")
    path = bench.settings.data_dir / "objects" / key
    path.chmod(0o600)
    path.write_bytes(b"other bytes")
    bench.resume(job_id)
    with bench.worker():
        assert bench.wait_final(job_id).status == "succeeded"
    starts = [e.data["step"] for e in bench.rows(Event, job_id) if e.type == "resumed"]
    assert starts == [before.step]
    assert any(newest.name in e.message and "damaged" in e.message for e in bench.rows(Event, job_id))
