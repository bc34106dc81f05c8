"""Many processes, one PostgreSQL: each item is claimed once, each silence is noticed once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.pool import Pool
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from api.datasets.models import Dataset
from api.db import Database
from api.ids import new_id
from api.jobs import events
from api.jobs.models import Job
from api.subjects.repository import find
from api.work import repository
from api.work import service as work
from api.work.models import Attempt, WorkItem
from api.work.states import Slot, WorkKind
from tests.services.claims import claim_all, join, sweep_once
from tests.worker.test_leases import _claim_and_admit as claim_and_vanish

Bench = Any  # the class of tests/worker/conftest.py
RACERS = 4


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    context = get_context("spawn")
    with context.Pool(RACERS, initializer=join, initargs=(context.Barrier(RACERS),)) as pool:
        yield pool


def test_each_item_is_claimed_by_one_of_many_processes(bench: Bench, pool: Pool) -> None:
    with bench.database.write() as session:
        ids = [
            work.enqueue(session, WorkKind.TRAIN, new_id("ftjob"), tenant_id=f"t{n % 3}", slot=Slot.GPU).id
            for n in range(150)
        ]
    claimed = pool.starmap(claim_all, [(bench.settings.database, f"w{n}") for n in range(RACERS)])
    everything = [claim for share in claimed for claim in share]
    assert sorted(everything) == sorted((id_, 1) for id_ in ids)
    assert min(len(share) for share in claimed) > 0, "nobody raced"
    with bench.database.read() as session:
        assert len(list(session.scalars(select(Attempt)))) == 150


def test_each_lost_job_is_recovered_by_one_of_many_sweeps(bench: Bench, pool: Pool) -> None:
    job_ids = [bench.job() for _ in range(20)]
    for _ in job_ids:
        assert claim_and_vanish(bench)
    settings = bench.settings.model_copy(update={"trainer_command": []})
    recovered = pool.map(sweep_once, [settings] * RACERS)
    assert sum(recovered) == 20
    assert {bench.get(Job, job_id).recoveries for job_id in job_ids} == {1}
    assert [bench.reasons(job_id) for job_id in job_ids] == [["worker_lost"]] * 20


def test_who_is_frozen_amid_a_transaction_stops_the_others_for_a_moment_only(bench: Bench) -> None:
    """What it has locked is let go by the server; what it did not commit has not happened."""
    with bench.database.write() as session:
        work.enqueue(session, WorkKind.TRAIN, new_id("ftjob"), tenant_id="t", slot=Slot.GPU)
    frozen = Database(bench.settings.database)
    with frozen.engine.connect() as connection:
        connection.execute(text("SET idle_in_transaction_session_timeout = 300"))
        connection.execute(select(WorkItem.id).with_for_update())
        time.sleep(1.0)
        with bench.database.write() as session:
            item = repository.claim(session, kinds=list(WorkKind), slot=Slot.GPU, worker_id="w", lease_s=60.0)
        assert item is not None
        connection.invalidate()
    frozen.close()
    for lease_s, let_go in ((60.0, "10s"), (6.0, "2s")):
        database = Database(bench.settings.database, lease_s=lease_s)
        with database.engine.connect() as connection:
            assert connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == let_go
        database.close()


def test_a_reader_who_was_frozen_after_its_last_query_has_what_it_read(bench: Bench) -> None:
    with bench.database.write() as session:
        item_id = work.enqueue(session, WorkKind.TRAIN, new_id("ftjob"), tenant_id="t", slot=Slot.GPU).id
    slow = Database(bench.settings.database, lease_s=0.6)
    for _ in range(2):  # the second time with a new connection
        with slow.read() as session:
            read = list(session.scalars(select(WorkItem.id)))
            time.sleep(0.8)
        assert read == [item_id]
    with slow.read() as session:
        session.scalars(select(WorkItem.id)).all()
        time.sleep(0.8)
        with pytest.raises(DBAPIError):
            session.scalars(select(WorkItem.id)).all()
    slow.close()


def test_a_submission_that_takes_long_stops_no_running_job(bench: Bench) -> None:
    """It locks the data set; a worker that writes the job's row twice has its reference to the data set checked."""
    job = bench.get(Job, bench.job())
    with bench.database.write() as submitting:
        assert find(submitting, Dataset, "t", job.training_file, lock=True) is not None
        with bench.database.write() as session:
            session.execute(text("SET LOCAL lock_timeout = 1000"))
            for message in ("one", "two"):
                events.append(session, session.get_one(Job, job.id), "message", message)
