"""From the last released tables to today's with a job running: it goes on, and queries do not wait for the change."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from sqlalchemy import inspect, text

from api.datasets.models import Dataset
from api.db import Database
from api.jobs.models import Job
from api.subjects.models import ResultFile
from api.work.models import WorkItem
from api.work.states import Slot
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig
from migrations.run import check, downgrade, upgrade
from worker.service import Worker
from worker.supervise import take
from worker.sweep import Sweep

Bench = Any  # the class of conftest.py
RELEASED = "0005"  # of 0.2.0


@pytest.mark.both_databases
def test_a_running_job_survives_an_upgrade(bench: Bench) -> None:
    """It has saved a checkpoint, and is held by a worker that the upgrade ends."""
    bench.hurry()
    job_id = bench.job({"steps": 60, "every": 5, "step_s": 0.1})
    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).step >= 10)
    before = bench.steps(job_id)
    ended = Worker(bench.settings)
    assert take(ended.tools, Slot.GPU, ended.worker_id) is not None
    ended.tools.database.close()
    assert bench.status(job_id) == "running"
    bench.database.close()
    downgrade(bench.settings.database, RELEASED)
    assert "expected_sha256" not in columns(bench.database, "datasets")
    upgrade(bench.settings.database)
    check(bench.settings.database)
    sweep = Sweep(bench.settings)
    bench.wait(sweep.recover)
    sweep.close()
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.status, job.step) == ("succeeded", 60)
    assert "worker_lost" in bench.reasons(job_id)
    assert set(before) <= set(bench.steps(job_id))
    assert bench.get(Dataset, job.training_file).expected_sha256 is None


@pytest.mark.services
def test_a_migration_gives_way_to_who_holds_a_table(empty_postgres: str) -> None:
    upgrade(empty_postgres, RELEASED)
    database = Database(empty_postgres)
    ended = threading.Event()
    waits: list[float] = []

    def read() -> None:
        while not ended.is_set():
            began = time.monotonic()
            with database.read() as session:
                session.execute(text("SELECT count(*) FROM datasets"))
            waits.append(time.monotonic() - began)
            time.sleep(0.05)

    reader, migration = threading.Thread(target=read), threading.Thread(target=upgrade, args=(empty_postgres,))
    with database.read() as session:
        session.execute(text("SELECT count(*) FROM datasets"))
        reader.start()
        migration.start()
        time.sleep(5.0)
        assert migration.is_alive()
        assert "expected_sha256" not in columns(database, "datasets")
    migration.join(60)
    ended.set()
    reader.join()
    check(empty_postgres)
    database.close()
    assert max(waits) < 4.0, "the lock timeout is 2 s"


def columns(database: Database, table: str) -> set[str]:
    return {column["name"] for column in inspect(database.engine).get_columns(table)}


OF_0_2_0: dict[str, Any] = {"psi": "snr", "tau": 2.0, "recipe": "algorithm1", "retention_share": 0.3}
"""A version accepted these together, and this one refuses them."""


def as_an_older_version_stored_it(bench: Bench, job_id: str) -> dict[str, Any]:
    """Without what came since, with a field that is no more, and with settings that would be refused today."""
    with bench.database.write() as session:
        job = session.get_one(Job, job_id)
        method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {**OF_0_2_0, "max_steps": 20, "gone": 1}}}
        evaluation = {k: v for k, v in job.config["evaluation"].items() if k != "class_distribution"}
        kept = {k: v for k, v in job.config.items() if k not in {"checkpoints", "resources", "control"}}
        job.config = {**kept, "method": method, "evaluation": {**evaluation, "best_metric": "recall"}, "gone": 1}
        return dict(job.config)


def test_jobs_that_an_older_version_accepted_run_as_they_were_stored(bench: Bench) -> None:
    """Queued, paused and running over the upgrade: what the trainer is given is what was stored, and marked as such."""
    bench.hurry()
    queued, paused, running = (bench.job({"step_s": 0.05}) for _ in range(3))
    for job_id in (queued, paused, running):
        as_an_older_version_stored_it(bench, job_id)
    bench.pause(paused)
    with bench.database.write() as session:
        session.get_one(WorkItem, bench.item(running).id).priority = 5
    ended = Worker(bench.settings)
    assert take(ended.tools, Slot.GPU, ended.worker_id) is not None
    ended.tools.database.close()
    assert [bench.status(id_) for id_ in (queued, paused, running)] == ["queued", "paused", "running"]
    sweep = Sweep(bench.settings)
    bench.wait(sweep.recover)
    sweep.close()
    bench.resume(paused)
    with bench.worker():
        for job_id in (queued, paused, running):
            job = bench.wait_final(job_id)
            assert (job.status, job.step) == ("succeeded", 20), job.error_message
            (report,) = bench.rows(ResultFile, job_id)
            arguments = json.loads(b"".join(bench.store.read(report.key)))["arguments"]
            assert "--resolved" in arguments
            assert job.transfer.method.hyperparameters.tau == 2.0


def test_what_the_trainer_is_given_is_what_was_stored(bench: Bench) -> None:
    job_id = bench.job({"step_s": 1.0})
    stored = as_an_older_version_stored_it(bench, job_id)
    with bench.worker():
        bench.child_pid(job_id)
        given = json.loads((bench.workspace(job_id) / "config.json").read_text())
        bench.cancel(job_id)
        bench.wait_final(job_id)
    assert given == read_stored(TransferConfig, stored).model_dump(mode="json")
    hyperparameters = given["method"]["diff_tuning"]["hyperparameters"]
    assert OF_0_2_0.items() <= hyperparameters.items()
    assert given["evaluation"]["class_distribution"] == "equal"
    assert given["evaluation"]["best_metric"] == "recall"
