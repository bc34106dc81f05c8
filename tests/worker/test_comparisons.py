"""Comparisons through a real worker: fake training, the real `compare`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from api.comparisons import service
from api.comparisons.kind import COMPARISONS
from api.comparisons.models import Comparison, ComparisonJob
from api.comparisons.schemas import ComparisonCreate
from api.jobs.models import Job
from api.settings import Settings
from api.subjects.models import ResultFile
from api.subjects.states import FINAL
from api.work.models import WorkItem
from api.work.states import WorkState
from difftune_core.config.card import BaseModelCard
from worker.sweep import Sweep

Bench = Any  # the class of conftest.py
CARD = BaseModelCard(id="tiny-dit", family="dit", image_size=32, feature_extractor="tiny-features", digest="0" * 64)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    trainer = [sys.executable, str(Path(__file__).with_name("reporting_trainer.py"))]
    return settings.model_copy(update={"trainer_command": trainer, "gpu_slots": 2})


@pytest.fixture
def compare(bench: Bench) -> Callable[..., str]:
    """A comparison of two methods, by its id."""

    def make(
        plan: dict[str, Any] | None = None, *, seeds: tuple[int, ...] = (0, 1), steps: int = 6, **fields: Any
    ) -> str:
        dataset = bench.dataset({"steps": steps, "step_s": 0.0, **(plan or {})})
        kinds = {"plain": "supervised", "diff": "diff_tuning"}
        methods = [
            {"name": name, "method": {"type": kind, kind: {"hyperparameters": {"max_steps": steps}}}}
            for name, kind in kinds.items()
        ]
        body = ComparisonCreate.model_validate(
            {"model": "tiny-dit", "training_file": dataset, "methods": methods, "seeds": list(seeds), "num_threads": 1}
            | fields
        )
        with bench.database.write() as session:
            configs = service.resolved(body, CARD, num_threads=1)
            return service.create(session, "t", body, configs, CARD).id

    return make


@pytest.fixture
def ended(bench: Bench) -> Callable[[str], Comparison]:
    def wait(comparison_id: str) -> Comparison:
        bench.wait(lambda: bench.get(Comparison, comparison_id).status in FINAL)
        return bench.get(Comparison, comparison_id)

    return wait


def files(bench: Bench, comparison_id: str) -> dict[str, bytes]:
    with bench.database.read() as session:
        rows = session.scalars(select(ResultFile).where(ResultFile.subject_id == comparison_id)).all()
    return {row.filename: b"".join(bench.store.read(row.key)) for row in rows}


def job_of(bench: Bench, comparison_id: str, method: str, seed: int) -> str:
    query = select(ComparisonJob.job_id).where(ComparisonJob.comparison_id == comparison_id)
    with bench.database.read() as session:
        return session.scalars(query.where(ComparisonJob.method == method, ComparisonJob.seed == seed)).one()


@pytest.mark.both_databases
def test_jobs_become_one_report(bench: Bench, compare: Callable[..., str], ended: Callable[..., Comparison]) -> None:
    comparison_id = compare(validation_file=bench.dataset({"held": "out"}))
    with bench.worker():
        row = ended(comparison_id)
    assert (row.status, row.error_message) == ("succeeded", None)
    found = files(bench, comparison_id)
    assert found.keys() == {"comparison.json", "comparison.html", "comparison.png"}
    report = json.loads(found["comparison.json"])
    (pair,) = report["figures"]["fid"]["pairs"]
    assert (pair["first"], pair["second"], pair["difference"], pair["seeds"]) == ("plain", "diff", -6.0, [0, 1])
    assert report["missing"] == []
    assert b"plain and diff on tiny-dit" in found["comparison.html"]
    about = {"id": comparison_id, "created_at": int(row.created_at), "data": "digits.zip"}
    assert report["about"] == about | {"validation": "digits.zip"}
    assert bench.reasons(comparison_id) == ["succeeded"]
    bench.wait(lambda: not bench.workspace(comparison_id).exists())


def test_failed_jobs_are_missing_by_name(
    bench: Bench, compare: Callable[..., str], ended: Callable[..., Comparison]
) -> None:
    comparison_id = compare({"fail": [["diff_tuning", 1]]}, seeds=(0, 1, 2))
    with bench.worker():
        assert ended(comparison_id).status == "succeeded"
    report = json.loads(files(bench, comparison_id)["comparison.json"])
    assert report["missing"] == [{"method": "diff", "seed": 1, "reason": "failed: the loss is no number"}]
    assert report["paired_seeds"] == [0, 2]


def test_without_a_pair_there_is_no_report(
    bench: Bench, compare: Callable[..., str], ended: Callable[..., Comparison]
) -> None:
    comparison_id = compare({"fail": [["diff_tuning", 0], ["diff_tuning", 1]]})
    with bench.worker():
        row = ended(comparison_id)
    assert (row.status, row.error_code) == ("failed", "too_few_runs")
    assert "diff (seed 0) failed: the loss is no number" in row.error_message
    assert files(bench, comparison_id) == {}


def test_a_killed_report_is_made_again(
    bench: Bench, compare: Callable[..., str], ended: Callable[..., Comparison]
) -> None:
    (bench.settings.data_dir / "crash").touch()
    comparison_id = compare(seeds=(0,))
    with bench.worker():
        assert ended(comparison_id).status == "succeeded"
    assert bench.reasons(comparison_id) == ["killed", "succeeded"]


def test_reports_that_cannot_be_compared_fail_it_by_name(
    bench: Bench, compare: Callable[..., str], ended: Callable[..., Comparison]
) -> None:
    comparison_id = compare({"report_without": ["recipe"]}, seeds=(0,))
    with bench.worker():
        row = ended(comparison_id)
    assert (row.status, row.error_code) == ("failed", "damaged_report")
    assert "plain/0/report.json" in row.error_message


def test_a_deleted_report_is_missing(
    bench: Bench, compare: Callable[..., str], ended: Callable[..., Comparison]
) -> None:
    comparison_id = compare(seeds=(0, 1))
    with bench.database.write() as session:  # nobody may claim the report yet
        session.execute(update(WorkItem).where(WorkItem.kind == "compare").values(slots=99))
    lost = job_of(bench, comparison_id, "diff", 1)
    with bench.worker():
        for method, seed in (("plain", 0), ("plain", 1), ("diff", 0)):
            bench.wait_final(job_of(bench, comparison_id, method, seed))
        bench.wait(lambda: bench.rows(ResultFile, lost) or bench.status(lost) == "running")
        bench.wait_final(lost)
        assert ended(comparison_id).status == "succeeded"
    with bench.database.write() as session:  # and once more, without that report
        session.execute(delete(ResultFile).where(ResultFile.subject_id == lost))
        session.execute(delete(ResultFile).where(ResultFile.subject_id == comparison_id))
        session.execute(update(Comparison).values(status="running"))
        item = WorkItem.kind == "compare"
        session.execute(update(WorkItem).where(item).values(state=WorkState.QUEUED, worker_id=None, lease_until=None))
    with bench.worker():
        assert ended(comparison_id).status == "succeeded"
    report = json.loads(files(bench, comparison_id)["comparison.json"])
    assert report["missing"] == [{"method": "diff", "seed": 1, "reason": "its report was deleted"}]


@pytest.mark.both_databases
def test_the_sweep_ends_a_job_and_its_comparison_still_gets_its_report(
    bench: Bench, compare: Callable[..., str], ended: Callable[..., Comparison]
) -> None:
    """The last job's worker is lost for the last time: the sweep's verdict is the end that queues the report."""
    comparison_id = compare(seeds=(0, 1))
    last = job_of(bench, comparison_id, "diff", 1)
    with bench.database.write() as session:
        session.execute(update(WorkItem).where(WorkItem.subject_id == last).values(slots=99))  # of no worker here
    with bench.worker():
        for method, seed in (("plain", 0), ("diff", 0), ("plain", 1)):
            assert bench.wait_final(job_of(bench, comparison_id, method, seed)).status == "succeeded"
    sweep = Sweep(bench.settings.model_copy(update={"max_attempts": 1}))
    with bench.database.write() as session:
        gone = {"state": WorkState.LEASED, "fence": 1, "worker_id": "gone", "lease_until": time.time() - 9, "slots": 1}
        session.execute(update(WorkItem).where(WorkItem.subject_id == last).values(gone))
        session.execute(update(Job).where(Job.id == last).values(status="running"))
    assert sweep.recover() == 1
    sweep.close()
    assert bench.status(last) == "failed"
    assert bench.item(comparison_id).state == WorkState.QUEUED
    with bench.worker():
        assert ended(comparison_id).status == "succeeded"
    (missing,) = json.loads(files(bench, comparison_id)["comparison.json"])["missing"]
    assert (missing["method"], missing["seed"]) == ("diff", 1)
    assert "fell silent" in missing["reason"]


def test_cancelling_a_running_comparison_stops_its_jobs(
    bench: Bench, compare: Callable[..., str], ended: Callable[..., Comparison]
) -> None:
    comparison_id = compare({"step_s": 0.02}, steps=3000)
    with bench.worker():
        bench.wait(lambda: bench.get(Comparison, comparison_id).status == "running")
        with bench.database.write() as session:
            COMPARISONS.cancel(session, "t", comparison_id)
        assert ended(comparison_id).status == "cancelled"
    with bench.database.read() as session:
        assert set(session.scalars(select(Job.status))) == {"cancelled"}
        assert session.scalars(select(WorkItem).where(WorkItem.kind == "compare")).all() == []
