"""From the last released tables to today's with a job running: it goes on, and queries do not wait for the change."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import inspect, text

from api.datasets.models import Dataset
from api.db import Database
from api.jobs.models import Job
from api.work.states import Slot
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
