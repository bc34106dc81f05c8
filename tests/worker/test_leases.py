"""Claims and fences."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from api.db import Database
from api.ids import new_id
from api.jobs.models import Job
from api.settings import Settings
from api.work import repository
from api.work import service as work
from api.work.models import Attempt, WorkItem
from api.work.repository import LeaseLostError
from api.work.states import Request, Slot, WorkKind, WorkState
from worker.sweep import Sweep

Bench = Any  # the class of conftest.py
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


def claim(database: Database, lease_s: float = 60.0, worker_id: str = "w") -> WorkItem | None:
    with database.write() as session:
        return repository.claim(session, kinds=KINDS, slot=Slot.GPU, worker_id=worker_id, lease_s=lease_s)


def test_each_item_is_claimed_by_one_of_eight_threads(database: Database) -> None:
    ids = enqueue(database, 40)
    start = threading.Barrier(8)

    def work_until_empty(number: int) -> list[str]:
        start.wait()
        claimed = []
        while (item := claim(database, worker_id=str(number))) is not None:
            claimed.append(item.id)
        return claimed

    with ThreadPoolExecutor(8) as pool:
        per_thread = list(pool.map(work_until_empty, range(8)))
    assert sorted(id_ for claimed in per_thread for id_ in claimed) == sorted(ids)
    with database.read() as session:
        attempts = list(session.scalars(select(Attempt)))
    assert [(a.fence, a.ended_at) for a in attempts] == [(1, None)] * 40


def test_other_slots_and_the_future_are_left_alone(database: Database) -> None:
    [later] = enqueue(database)
    with database.write() as session:
        session.execute(update(WorkItem).values(run_after=time.time() + 30))
        work.enqueue(session, WorkKind.VALIDATE_DATASET, new_id("ds"), tenant_id="t")
    assert claim(database) is None
    with database.write() as session:
        session.execute(update(WorkItem).where(WorkItem.id == later).values(run_after=0.0))
    assert claim(database) is not None


def test_a_stale_holder_can_do_nothing(database: Database) -> None:
    enqueue(database)
    first = claim(database)
    assert first is not None
    stale = repository.lease_of(first)
    with database.write() as session:
        item = repository.hold(session, stale)
        repository.requeue(session, item, "worker_lost")
        held = {"lease_until": None, "worker_id": None, "request": None, "rung_at": None}
        assert {name: getattr(item, name) for name in held} == held, "it is nobody's"
    second = claim(database)
    assert second is not None
    assert second.fence == 2
    with database.write() as session, pytest.raises(LeaseLostError):
        repository.hold(session, stale)
    with database.write() as session, pytest.raises(LeaseLostError):
        repository.renew(session, stale, lease_s=60)
    with database.write() as session:
        assert repository.hold(session, repository.lease_of(second)).fence == 2
        assert [a.reason for a in repository.attempts(session, second.id)] == [None, "worker_lost"]


def test_renewal_prolongs_and_brings_the_request(database: Database) -> None:
    enqueue(database)
    item = claim(database, lease_s=0.2)
    assert item is not None
    lease = repository.lease_of(item)
    with database.write() as session:
        assert repository.renew(session, lease, lease_s=60) is None
        session.execute(update(WorkItem).values(request=Request.CANCEL))
    time.sleep(0.3)
    with database.write() as session:
        assert repository.expired(session) == []
        assert repository.renew(session, lease, lease_s=60) == Request.CANCEL


def test_a_lease_without_an_end_counts_as_over(database: Database) -> None:
    [item_id] = enqueue(database)
    claim(database)
    with database.write() as session:
        session.execute(update(WorkItem).values(lease_until=None, claimed_at=None))
    with database.read() as session:
        assert repository.expired(session) == [item_id]


def test_an_expired_lease_is_taken_by_one_of_many_sweeps(database: Database) -> None:
    enqueue(database, 10)
    while claim(database, lease_s=0.0) is not None:
        pass
    time.sleep(0.01)
    start = threading.Barrier(6)

    def sweep(_: int) -> int:
        start.wait()
        taken = 0
        with database.read() as session:
            silent = repository.expired(session)
        for item_id in silent:
            with database.write() as session:
                item = repository.take_expired(session, item_id)
                if item is not None:
                    repository.requeue(session, item, "worker_lost")
                    taken += 1
        return taken

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(sweep, range(6))) == 10
    with database.read() as session:
        assert {i.state for i in session.scalars(select(WorkItem))} == {WorkState.QUEUED}


def test_two_sweeps_recover_each_lost_job_once(bench: Bench) -> None:
    job_ids = [bench.job() for _ in range(4)]
    for _ in job_ids:
        assert _claim_and_admit(bench)
    sweeps = [Sweep(bench.settings), Sweep(bench.settings)]
    with ThreadPoolExecutor(2) as pool:
        recovered = sum(pool.map(lambda sweep: sweep.recover(), sweeps))
    for sweep in sweeps:
        sweep.close()
    assert recovered == 4
    assert [bench.reasons(job_id) for job_id in job_ids] == [["worker_lost"]] * 4
    assert {(bench.get(Job, j).status, bench.get(Job, j).recoveries) for j in job_ids} == {("queued", 1)}


def test_a_job_whose_workers_are_lost_again_and_again_fails(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"retry_delay_s": 0.0})
    job_id, sweep = bench.job(), Sweep(bench.settings)
    for _ in range(3):
        assert bench.status(job_id) == "queued"
        assert _claim_and_admit(bench)
        sweep.recover()
    sweep.close()
    assert (bench.status(job_id), bench.get(Job, job_id).error_code) == ("failed", "crash_loop")
    assert bench.item(job_id).state == WorkState.DONE


def test_a_cancelled_job_whose_worker_is_lost_is_cancelled(bench: Bench) -> None:
    job_id, sweep = bench.job(), Sweep(bench.settings)
    assert _claim_and_admit(bench)
    bench.cancel(job_id)
    sweep.recover()
    sweep.close()
    assert (bench.status(job_id), bench.reasons(job_id)) == ("cancelled", ["cancelled"])


def _claim_and_admit(bench: Bench) -> bool:
    """A worker that claims and is never heard of again."""
    from worker.settle import admit

    with bench.database.write() as session:
        item = repository.claim(session, kinds=KINDS, slot=Slot.GPU, worker_id="lost", lease_s=0.0)
        return item is not None and admit(session, item)
