"""`checkpoints.keep_last`: what goes, and each thing that never does."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import update

from api.analyses.models import Analysis
from api.checkpoints import repository
from api.jobs.models import Checkpoint, Event, Job
from api.subjects.states import Status
from worker.collect import collect_checkpoints

Bench = Any  # the class of conftest.py
DAY = 86_400.0


def stored(bench: Bench, job_id: str) -> list[int]:
    """Steps whose weights are in the store."""
    keys = [info.key.split("/") for info in bench.store.list(f"jobs/{job_id}/")]
    return sorted(int(parts[-2].removeprefix("step-")) for parts in keys if parts[-1] == "model.safetensors")


def collected(bench: Bench) -> int:
    return collect_checkpoints(bench.database, bench.store)


def ended(bench: Bench, keep_last: int | None = None) -> str:
    """A job that has saved steps 5, 10, 15 and 20; what it keeps is decided afterwards."""
    job_id = bench.job({"steps": 20, "every": 5})
    with bench.worker():
        assert bench.wait_final(job_id).status == "succeeded"
    keep(bench, job_id, keep_last)
    return job_id


def keep(bench: Bench, job_id: str, keep_last: int | None) -> None:
    with bench.database.write() as session:
        job = session.get_one(Job, job_id)
        job.config = {**job.config, "checkpoints": {"keep_last": keep_last}}


def checkpoint(bench: Bench, job_id: str, step: int) -> Checkpoint:
    return next(row for row in bench.rows(Checkpoint, job_id) if row.step == step)


@pytest.mark.both_databases
def test_the_last_stay_with_the_best_and_the_rest_goes(bench: Bench) -> None:
    job_id = bench.job({"steps": 40, "every": 5, "best_at": [5, 15], "keep_last": 2})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert bench.steps(job_id) == stored(bench, job_id) == [15, 35, 40]
    assert job.best_checkpoint == checkpoint(bench, job_id, 15).id, "5 went when it was the best no more"
    assert job.fine_tuned_model == checkpoint(bench, job_id, 40).id
    told = {event.message for event in bench.rows(Event, job_id) if event.message.startswith("Deleted")}
    assert told == {f"Deleted the checkpoint of step {n}: checkpoints.keep_last is 2." for n in (5, 10, 20, 25, 30)}
    assert collected(bench) == 0


def test_without_a_number_all_stay(bench: Bench) -> None:
    job_id = ended(bench)
    assert collected(bench) == 0
    assert bench.steps(job_id) == stored(bench, job_id) == [5, 10, 15, 20]


def test_what_a_job_may_go_on_from_stays_until_it_has_ended(bench: Bench) -> None:
    """One is kept, but a live job has two, in case the newest is damaged."""
    job_id = bench.job({"steps": 2000, "every": 5, "step_s": 0.01, "keep_last": 1})
    with bench.worker():
        bench.wait(lambda: max([0, *bench.steps(job_id)]) >= 20)
        bench.pause(job_id)
        bench.wait(lambda: bench.status(job_id) == "paused")
    kept = bench.steps(job_id)
    assert len(kept) == 2
    assert kept == stored(bench, job_id)
    assert all(row.resume_available for row in bench.rows(Checkpoint, job_id))
    assert collected(bench) == 0, "it is paused and may be resumed"
    bench.cancel(job_id)
    assert collected(bench) == 3, "weights, state and manifest"
    assert bench.steps(job_id) == stored(bench, job_id) == kept[-1:]


@pytest.mark.both_databases
def test_the_result_stays_where_it_is_not_the_last(bench: Bench) -> None:
    job_id = ended(bench, keep_last=1)
    chosen = checkpoint(bench, job_id, 10).id
    with bench.database.write() as session:
        session.get_one(Job, job_id).fine_tuned_model = chosen
    assert collected(bench) > 0
    assert bench.steps(job_id) == stored(bench, job_id) == [10, 20]


@pytest.mark.both_databases
def test_what_is_downloaded_stays_until_that_is_over(bench: Bench) -> None:
    job_id = ended(bench, keep_last=1)
    with bench.database.write() as session:
        checkpoint_id = checkpoint(bench, job_id, 10).id
        repository.find(session, "t", checkpoint_id, lock="write").linked_until = time.time() - DAY + 60.0
    collected(bench)
    assert bench.steps(job_id) == stored(bench, job_id) == [10, 20]
    with bench.database.write() as session:
        session.execute(update(Checkpoint).values(linked_until=time.time() - DAY))
    assert collected(bench) == 2
    assert bench.steps(job_id) == stored(bench, job_id) == [20]


@pytest.mark.both_databases
def test_what_an_analysis_looks_at_stays_until_it_has_ended(bench: Bench) -> None:
    job_id = ended(bench, keep_last=1)
    seen = [{"id": checkpoint(bench, job_id, 5).id, "name": "early", "job_id": job_id, "step": 5}]
    dataset = bench.get(Job, job_id).training_file
    with bench.database.write() as session:
        columns = {"type": "chain_of_forgetting", "config": {}, "training_file": dataset}
        session.add(Analysis(id="an_1", tenant_id="t", checkpoints=seen, created_at=0.0, **columns))
    collected(bench)
    assert bench.steps(job_id) == stored(bench, job_id) == [5, 20]
    with bench.database.write() as session:
        session.get_one(Analysis, "an_1").status = Status.SUCCEEDED
    collected(bench)
    assert bench.steps(job_id) == stored(bench, job_id) == [20]


@pytest.mark.services
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
@pytest.mark.parametrize("lock", ["read", "write"])
def test_what_somebody_is_about_to_need_is_passed_over(bench: Bench, lock: Any) -> None:
    """A request that names a checkpoint and has not committed yet."""
    job_id = ended(bench, keep_last=1)
    with bench.database.write() as session:
        assert repository.find(session, "t", checkpoint(bench, job_id, 10).id, lock=lock) is not None
        collected(bench)
        assert bench.steps(job_id) == [10, 20]
    collected(bench)
    assert bench.steps(job_id) == [20]
