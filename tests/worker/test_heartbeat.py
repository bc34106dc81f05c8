"""What a holder knows of its lease, by its own clock; and that the sweep takes every step."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from api.db import Database
from api.ids import new_id
from api.settings import Settings
from api.work import repository
from api.work import service as work
from api.work.models import WorkItem
from api.work.repository import lease_of
from api.work.states import Request, Slot, WorkKind
from worker.lease import Heartbeat
from worker.sweep import Sweep


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database)
    yield database
    database.close()


def enqueue(database: Database, priority: int = 0) -> str:
    with database.write() as session:
        job_id = new_id("ftjob")
        return work.enqueue(session, WorkKind.TRAIN, job_id, tenant_id="t", slot=Slot.GPU, priority=priority).id


def claim(database: Database, lease_s: float) -> WorkItem:
    with database.write() as session:
        item = repository.claim(session, kinds=list(WorkKind), slot=Slot.GPU, worker_id="w", lease_s=lease_s)
        assert item is not None
        return item


def test_a_slow_renewal_counts_from_its_start(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row's lease began when the database was asked, at the latest when it answered: the holder takes the first."""
    now, renew = [1000.0], repository.renew

    def slowly(*args: Any, **options: Any) -> Any:
        found = renew(*args, **options)
        now[0] += 8
        return found

    enqueue(database)
    lease = lease_of(claim(database, lease_s=15.0))
    monkeypatch.setattr("worker.lease.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("worker.lease.repository.renew", slowly)
    heartbeat = Heartbeat(database, lease, since=now[0], settings=settings.model_copy(update={"lease_s": 15.0}))
    assert heartbeat._renew()
    assert not heartbeat.lost
    now[0] += 3  # 11 s after the renewal began, 3 s after it ended; two thirds of the lease are 10 s
    assert heartbeat.lost


def test_a_renewal_that_fails_is_tried_again_long_before_the_next_beat(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With beats a minute apart, the second try comes after half a second: in 10 s, or never."""
    asked, again = 0, threading.Event()

    def fails(*_: Any, **__: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            again.set()
        raise OSError("the database is away")

    enqueue(database)
    lease = lease_of(claim(database, lease_s=180.0))
    monkeypatch.setattr("worker.lease.repository.renew", fails)
    slow = settings.model_copy(update={"heartbeat_s": 60.0, "lease_s": 180.0})
    with Heartbeat(database, lease, since=time.monotonic(), settings=slow):
        assert again.wait(10)


def test_a_round_of_the_sweep_makes_room_for_more_important_work(database: Database, settings: Settings) -> None:
    low = enqueue(database)
    claim(database, lease_s=60.0)
    enqueue(database, priority=10)
    sweep = Sweep(settings.model_copy(update={"preempt_after_s": 0.0}))
    assert sweep.once()
    sweep.close()
    with database.read() as session:
        assert session.get_one(WorkItem, low).request == Request.PREEMPT


def test_an_attempt_does_not_end_later_for_a_renewal_that_hangs(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    enqueue(database)
    lease = lease_of(claim(database, lease_s=15.0))
    monkeypatch.setattr(Heartbeat, "_beat", lambda _: over.wait(30))
    began = time.monotonic()
    with Heartbeat(database, lease, since=began, settings=settings):
        pass
    assert time.monotonic() - began < 20
    over.set()
