"""Leases and waits when the clock was set back: what was stored before lies ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import update

from api.db import Database
from api.ids import new_id
from api.settings import Settings
from api.work import repository
from api.work import service as work
from api.work.models import WorkerCapacity, WorkItem
from api.work.repository import Wants
from api.work.states import Slot, WorkKind, WorkState
from worker.settle import admit
from worker.sweep import Sweep

Bench = Any  # the class of conftest.py
KINDS = list(WorkKind)
HOUR_S = 3600.0
pytestmark = pytest.mark.both_databases


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database)
    yield database
    database.close()


def enqueue(database: Database, count: int = 1, **columns: Any) -> list[str]:
    with database.write() as session:
        asked = {"tenant_id": "t", "slot": Slot.GPU, **columns}
        return [work.enqueue(session, WorkKind.TRAIN, new_id("ftjob"), **asked).id for _ in range(count)]


def claim(database: Database) -> WorkItem | None:
    with database.write() as session:
        return repository.claim(session, kinds=KINDS, slot=Slot.GPU, worker_id="w", lease_s=60.0)


def set_clock_back(database: Database) -> None:
    """By an hour: all that was stored until now lies ahead."""
    with database.write() as session:
        for kind in (WorkItem, WorkerCapacity):
            times = [c for c in kind.__table__.columns if c.name.endswith(("_at", "_until", "_after"))]
            session.execute(update(kind).values({c.name: c + HOUR_S for c in times}))


def test_a_lease_of_a_clock_that_was_ahead_is_over(database: Database) -> None:
    """However long it says it lasts; one that is renewed afterwards is not."""
    held, lost = enqueue(database, 2)
    claims = {item.id: repository.lease_of(item) for item in iter(lambda: claim(database), None)}
    set_clock_back(database)
    with database.write() as session:
        assert set(repository.expired(session)) == {held, lost}
        repository.renew(session, claims[held], lease_s=60)
    with database.write() as session:
        assert repository.expired(session) == [lost]
        assert repository.take_expired(session, lost) is not None


def test_a_clock_that_is_set_back_by_a_little_costs_nobody_a_lease(database: Database) -> None:
    enqueue(database)
    claim(database)
    with database.write() as session:
        session.execute(update(WorkItem).values(lease_until=WorkItem.lease_until + 10))
    with database.read() as session:
        assert repository.expired(session) == []


def test_what_waits_is_claimed_though_the_clock_was_set_back(database: Database) -> None:
    [id_] = enqueue(database)
    item = claim(database)
    assert item is not None
    with database.write() as session:
        repository.requeue(session, repository.hold(session, repository.lease_of(item)), "killed", delay_s=30)
    assert claim(database) is None
    set_clock_back(database)
    with database.write() as session:
        assert repository.count_unrung(session, older_than_s=5.0) == 1
    again = claim(database)
    assert again is not None
    assert again.id == id_


def test_slots_are_not_kept_by_a_worker_of_a_clock_that_was_ahead(database: Database) -> None:
    """Nor does its offer stand."""
    enqueue(database, slots=2)
    wants = Wants(KINDS, Slot.GPU, free=1, total=2, images_patience_s=600.0)

    def gathers(worker_id: str) -> bool:
        with database.write() as session:
            return repository.gathers(session, wants, worker_id, lease_s=60.0, patience_s=0.0)

    with database.write() as session:
        repository.offer(session, "lost", gpu_slots=2)
    assert (gathers("lost"), gathers("other")) == (True, False)
    set_clock_back(database)
    assert gathers("other")
    with database.read() as session:
        assert repository.most_slots(session) == 0


def test_an_embedded_stack_ends_all_leases_at_its_start(bench: Bench, database_kind: str) -> None:
    """A database that other folders may use as well keeps them."""
    job_id = bench.job()
    with bench.database.write() as session:
        item = repository.claim(session, kinds=KINDS, slot=Slot.GPU, worker_id="killed", lease_s=HOUR_S)
        assert item is not None
        assert admit(session, item)
    sweep = Sweep(bench.settings)
    embedded = bench.settings.database_url is None
    assert sweep.recover_all() == embedded
    sweep.close()
    assert bench.item(job_id).state == (WorkState.QUEUED if embedded else WorkState.LEASED)
    assert embedded == (database_kind == "sqlite")
