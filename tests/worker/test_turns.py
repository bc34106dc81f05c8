"""Whose turn it is: tenants take turns, and a priority counts among a tenant's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from api.db import Database
from api.ids import new_id
from api.images.kind import GENERATIONS
from api.settings import Settings
from api.work import repository
from api.work import service as work
from api.work.models import WorkItem
from api.work.order import preempt
from api.work.states import Request, Slot, WorkKind
from worker.sweep import Sweep

KINDS = list(WorkKind)
pytestmark = pytest.mark.both_databases


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database)
    yield database
    database.close()


def enqueue(database: Database, count: int = 1, tenant_id: str = "t", **columns: Any) -> list[str]:
    with database.write() as session:
        return [
            work.enqueue(session, WorkKind.TRAIN, new_id("ftjob"), tenant_id=tenant_id, slot=Slot.GPU, **columns).id
            for _ in range(count)
        ]


def claim(database: Database, **options: Any) -> str | None:
    asked: dict[str, Any] = {"kinds": KINDS, "slot": Slot.GPU, "worker_id": "w", "lease_s": 60.0}
    with database.write() as session:
        item = repository.claim(session, **asked, **options)
        return item.id if item else None


def claim_all(database: Database, **options: Any) -> list[str]:
    return list(iter(lambda: claim(database, **options), None))


def finish(database: Database, item_id: str) -> None:
    with database.write() as session:
        repository.finish(session, session.get_one(WorkItem, item_id), "succeeded")


def asked_to_give_way(
    database: Database, *, patience_s: float = 0.0, images_patience_s: float = 600.0, across_tenants: bool = False
) -> list[str]:
    with database.write() as session:
        patience = {"patience_s": patience_s, "images_patience_s": images_patience_s}
        subjects = preempt(session, Slot.GPU, **patience, across_tenants=across_tenants)
        return list(session.scalars(select(WorkItem.id).where(WorkItem.subject_id.in_(subjects))))


def test_priority_then_age_decide_among_a_tenants_own(database: Database) -> None:
    [old] = enqueue(database)
    [young] = enqueue(database)
    [urgent] = enqueue(database, priority=1)
    assert claim_all(database) == [urgent, old, young]


def test_tenants_take_turns_whoever_came_first_and_with_how_much(database: Database) -> None:
    """One after the other, as one slot claims: each is done before the next is claimed."""
    many = enqueue(database, 4, tenant_id="a")
    few = enqueue(database, 2, tenant_id="b")
    order = []
    while (item := claim(database)) is not None:
        order.append(item)
        finish(database, item)
    assert order == [many[0], few[0], many[1], few[1], many[2], many[3]]


def test_who_has_less_in_work_goes_first_though_served_later(database: Database) -> None:
    """The share counts before the turn: `b` was served after `a` and has nothing any more, `a` still has one."""
    [held] = enqueue(database, tenant_id="a")
    assert claim(database) == held
    [short] = enqueue(database, tenant_id="b")
    assert claim(database) == short
    finish(database, short)
    [second_of_a] = enqueue(database, tenant_id="a")
    [second_of_b] = enqueue(database, tenant_id="b")
    assert claim_all(database) == [second_of_b, second_of_a]


def test_an_item_with_several_slots_counts_as_several(database: Database) -> None:
    [wide] = enqueue(database, tenant_id="a")
    narrow = enqueue(database, 2, tenant_id="b")
    assert sorted(claim_all(database)) == sorted([wide, *narrow])
    with database.write() as session:
        session.execute(update(WorkItem).where(WorkItem.id == wide).values(slots=3, claimed_at=1.0))
    [of_a] = enqueue(database, tenant_id="a")
    [of_b] = enqueue(database, tenant_id="b")
    assert claim_all(database) == [of_b, of_a]


@pytest.mark.parametrize("came_first", ["modest", "loud"])
def test_a_priority_moves_nobody_elses_item(database: Database, came_first: str) -> None:
    other = {"modest": "loud", "loud": "modest"}[came_first]
    priority = {"loud": 100, "modest": -100}
    items = {
        tenant: enqueue(database, tenant_id=tenant, priority=priority[tenant])[0] for tenant in (came_first, other)
    }
    assert claim_all(database) == [items[came_first], items[other]]


def test_a_late_item_of_high_priority_does_not_take_its_tenants_turn_back(database: Database) -> None:
    """Whose oldest item is the oldest goes first; which of its items, its priorities say."""
    [old] = enqueue(database, tenant_id="a")
    [of_b] = enqueue(database, tenant_id="b", priority=100)
    [urgent] = enqueue(database, tenant_id="a", priority=1)
    assert claim_all(database) == [urgent, of_b, old]


def test_the_operator_may_let_priorities_count_for_all(database: Database) -> None:
    [old] = enqueue(database, tenant_id="a")
    [urgent] = enqueue(database, tenant_id="b", priority=5)
    assert claim_all(database, across_tenants=True) == [urgent, old]


def test_the_least_important_training_gives_way_once(database: Database) -> None:
    [low] = enqueue(database, priority=-1)
    [normal] = enqueue(database)
    claim_all(database)
    enqueue(database, 2, priority=5)
    assert asked_to_give_way(database, patience_s=60.0) == [], "it may still find a free slot"
    start = threading.Barrier(4)

    def sweep(_: int) -> list[str]:
        start.wait()
        return asked_to_give_way(database)

    with ThreadPoolExecutor(4) as pool:
        asked = [item for share in pool.map(sweep, range(4)) for item in share]
    assert sorted(asked) == sorted([low, normal])
    with database.read() as session:
        requests = set(session.scalars(select(WorkItem.request).where(WorkItem.id.in_([low, normal]))))
    assert requests == {Request.PREEMPT}


def test_equals_do_not_push_each_other_out(database: Database) -> None:
    enqueue(database, priority=5)
    assert claim(database) is not None
    enqueue(database, 2, priority=5)
    assert asked_to_give_way(database) == []


def test_nobody_is_preempted_by_another_tenant(database: Database, settings: Settings) -> None:
    [running] = enqueue(database, tenant_id="a", priority=-100)
    assert claim(database) == running
    enqueue(database, tenant_id="b", priority=100)
    assert asked_to_give_way(database) == []
    sweeps = [
        settings.model_copy(update={"preempt_after_s": 0.0, **extra})
        for extra in ({}, {"priority_across_tenants": True})
    ]
    for sweep, asked in zip(map(Sweep, sweeps), (0, 1), strict=True):
        assert sweep.preempt() == asked
        sweep.close()


def test_who_preempts_its_own_gets_the_slot_itself(database: Database) -> None:
    """Else a tenant's urgent job would hand its running one's slot to the tenant whose turn it is."""
    [running] = enqueue(database, tenant_id="a")
    assert claim(database) == running
    enqueue(database, tenant_id="a", priority=9)
    [waiting] = enqueue(database, tenant_id="b")
    assert asked_to_give_way(database) == []
    assert claim(database) == waiting
    enqueue(database, tenant_id="b")
    assert asked_to_give_way(database) == [running]


def ask_for_images(database: Database, tenant_id: str = "t") -> str:
    with database.write() as session:
        columns = {"tenant_id": tenant_id, "slot": Slot.GPU, "priority": GENERATIONS.priority}
        return work.enqueue(session, WorkKind.GENERATE, new_id("img"), **columns).id


def test_images_wait_for_everybodys_jobs(database: Database) -> None:
    images = ask_for_images(database, "idle")
    jobs = enqueue(database, 2, tenant_id="busy")
    assert claim_all(database) == [*jobs, images]


def ago(database: Database, seconds: float, *items: str) -> None:
    """Let time go by for these."""
    with database.write() as session:
        for item in (session.get_one(WorkItem, item) for item in items):
            item.created_at -= seconds
            item.run_after -= seconds
            item.claimed_at = item.claimed_at and item.claimed_at - seconds


def test_images_that_have_waited_long_take_turns_with_jobs_and_keep_their_slot_as_long(database: Database) -> None:
    patience: dict[str, Any] = {"images_patience_s": 100.0}
    images = ask_for_images(database, "idle")
    ago(database, 99, images)
    first, second = enqueue(database, 2, tenant_id="busy")
    assert claim(database, **patience) == first
    finish(database, first)
    ago(database, 2, images)
    assert claim(database, **patience) == images, "of the tenant that was never served"
    assert asked_to_give_way(database, **patience) == []
    ago(database, 101, images)
    assert asked_to_give_way(database, **patience) == [images]
    with database.write() as session:
        repository.requeue(session, session.get_one(WorkItem, images), "preempted")
    assert claim(database, **patience) == second, "it waits anew"
    assert claim(database, **patience) == images


def test_images_in_work_give_way_to_anybodys_job_and_before_a_training(database: Database) -> None:
    images = ask_for_images(database, "other")
    [training] = enqueue(database, tenant_id="t")
    assert claim_all(database) == [training, images]
    ask_for_images(database, "t")
    assert asked_to_give_way(database) == [], "not to other images"
    enqueue(database, tenant_id="t", priority=5)
    assert asked_to_give_way(database) == [images]
    assert asked_to_give_way(database) == [], "its slot is on the way"
