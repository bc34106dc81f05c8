"""The best checkpoint on its way into rows and store."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from api.jobs.models import Checkpoint, Event, Job
from api.work.models import WorkItem

Bench = Any  # the class of conftest.py


def whole_in_store(bench: Bench, job_id: str) -> set[int]:
    """Steps whose resume files are in the store."""
    names = [o.key.split("/")[-2:] for o in bench.store.list(f"jobs/{job_id}/")]
    return {int(folder.removeprefix("step-")) for folder, name in names if name == "resume.safetensors"}


def test_the_best_stays_whole_until_a_better_one_is_there(bench: Bench) -> None:
    job_id = bench.job({"steps": 40, "every": 5, "best_at": [5, 15]})
    with bench.worker():
        job = bench.wait_final(job_id)
    rows = {row.step: row for row in bench.rows(Checkpoint, job_id)}
    assert job.best_checkpoint == rows[15].id
    assert job.fine_tuned_model == rows[40].id
    assert [step for step, row in sorted(rows.items()) if row.resume_available] == [15, 35, 40]
    assert whole_in_store(bench, job_id) == {15, 35, 40}
    told = [e.data for e in sorted(bench.rows(Event, job_id), key=lambda e: e.number) if e.type == "best"]
    assert told == [{"step": s, "id": rows[s].id, "metric": "fid", "value": 100.0 - s} for s in (5, 15)]


@pytest.mark.parametrize(("best_at", "delivered"), [([10], 10), ([], 20)])
def test_the_best_is_delivered_where_the_job_asks_for_it(bench: Bench, best_at: list[int], delivered: int) -> None:
    job_id = bench.job({"steps": 20, "every": 5, "best_at": best_at, "deliver": "best"})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert bench.get(Checkpoint, job.fine_tuned_model).step == delivered
    assert job.step == 20, "how far it got, not what it delivers"


def test_another_node_fetches_the_best_and_the_newest(bench: Bench) -> None:
    job_id = bench.job({"steps": 2000, "every": 5, "step_s": 0.02, "best_at": [5], "deliver": "best"})
    with bench.worker():
        bench.wait(lambda: len(bench.steps(job_id)) >= 4)
    newest = max(bench.steps(job_id))
    shutil.rmtree(bench.workspace(job_id))  # as a node that never had it
    with bench.worker():
        bench.wait(lambda: max(bench.steps(job_id)) > newest)
        here = {path.name for path in (bench.workspace(job_id) / "out" / "checkpoints").glob("step-*")}
        assert {"step-00000005", f"step-{newest:08d}"} <= here
        bench.cancel(job_id)
        bench.wait_final(job_id)


def test_a_best_that_is_told_again_is_no_news(bench: Bench) -> None:
    job_id = bench.job({"steps": 12, "every": 5, "best_at": [5], "kill_once_at": 8})
    with bench.worker():
        assert bench.wait_final(job_id).recoveries == 1
    assert len([e for e in bench.rows(Event, job_id) if e.type == "best"]) == 1
    assert bench.get(Job, job_id).best_checkpoint is not None
    assert bench.item(job_id).fence == 2
    assert isinstance(bench.item(job_id), WorkItem)
