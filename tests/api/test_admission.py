"""Places for work at once: tenants take turns, and who waits too long is told when to come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from api.admission import FairLimiter
from api.db import Database
from api.errors import ServiceError, TooManyRequestsError, UnavailableError
from api.units import Units


def run(story: Callable[[], Awaitable[None]]) -> None:
    anyio.run(story)


@pytest.mark.parametrize(("shares", "tenants", "wanted"), [(False, 4, 4), (True, 1, 2)])
def test_no_more_work_at_once_than_places(*, shares: bool, tenants: int, wanted: int) -> None:
    """With shares, one tenant alone has half of them all the time."""
    most, now, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    async def story() -> None:
        places = FairLimiter(4, shares=shares)
        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(places.run, f"tenant {number % tenants}", work)
        assert not places._held, "nothing is kept of who has left"

    run(story)
    assert most == wanted


def test_a_tenant_does_not_wait_for_all_requests_of_another() -> None:
    done: list[str] = []

    async def story() -> None:
        places = FairLimiter(1)
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(places.run, "many", lambda: done.append("many"))
            await anyio.lowlevel.checkpoint()
            group.start_soon(places.run, "one", lambda: done.append("one"))

    run(story)
    assert len(done) == 51
    assert done.index("one") <= 3


def test_who_waits_too_long_is_told_to_come_back_each_at_another_time() -> None:
    refusals: list[ServiceError] = []

    async def story() -> None:
        places, release = FairLimiter(1), threading.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(places.run, "many", lambda: time.sleep(2.0))
            await anyio.sleep(0.01)
            places._taken_s = 0.5  # as after some work that took so long

            async def refused(tenant: str) -> None:
                began = time.monotonic()
                with pytest.raises(ServiceError) as error:
                    await places.run(tenant, release.wait, patience_s=0.1)
                assert time.monotonic() - began < 1.0
                refusals.append(error.value)

            async with anyio.create_task_group() as waiting:
                for tenant in ["many"] * 6 + ["other"]:
                    waiting.start_soon(refused, tenant)

    run(story)
    kinds = [type(error) for error in refusals]
    assert kinds.count(TooManyRequestsError) == 6
    assert kinds.count(UnavailableError) == 1
    assert sorted(error.retry_after_s or 0 for error in refusals) == [1, 1, 2, 2, 3, 3, 4]


def test_shares_leave_places_to_others() -> None:
    async def story() -> None:
        places, release = FairLimiter(4, shares=True), threading.Event()
        async with anyio.create_task_group() as group:
            for tenant in ["many"] * 2 + ["other"]:
                group.start_soon(places.run, tenant, release.wait)
            await anyio.sleep(0.05)
            with pytest.raises(TooManyRequestsError):
                await places.run("many", release.wait, patience_s=0.05)
            assert await places.run("third", lambda: "served", patience_s=0.05) == "served"
            release.set()
        assert await places.run("many", lambda: "served") == "served"

    run(story)


def test_a_place_is_free_again_after_work_that_fails_and_waiters_that_go_away() -> None:
    async def story() -> None:
        places, release = FairLimiter(1), threading.Event()
        with pytest.raises(ZeroDivisionError):
            await places.run("a", lambda: 1 // 0)
        async with anyio.create_task_group() as group:
            group.start_soon(places.run, "a", release.wait)
            with anyio.move_on_after(0.05):
                await places.run("a", lambda: None)
            release.set()
        assert await places.run("b", lambda: "served") == "served"

    run(story)


def test_who_would_wait_too_long_does_not_wait_at_all() -> None:
    async def story() -> None:
        places, release = FairLimiter(1), threading.Event()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(places.run, "many", release.wait)
            await anyio.sleep(0.05)
            places._taken_s = 30.0  # as after some work that took so long
            began = time.monotonic()
            with pytest.raises(TooManyRequestsError) as error:
                places.refuse_hopeless("many", 20.0)
            assert (error.value.retry_after_s or 0) >= 20
            with pytest.raises(TooManyRequestsError):
                await places.run("many", lambda: None, patience_s=20.0)
            assert time.monotonic() - began < 10
            places.refuse_hopeless("other", 20.0)
            release.set()
        assert await places.run("many", lambda: "served", patience_s=20.0) == "served"

    run(story)


def test_a_writer_waits_as_long_as_its_caller_does(tmp_path: Path) -> None:
    """The places of writers on SQLite are taken for 1 s; a caller with less patience is told at once."""
    units = Units(Database(f"sqlite:///{tmp_path / 'rows.sqlite3'}"))
    refused: list[float] = []

    async def impatient() -> None:
        began = time.monotonic()
        with pytest.raises((TooManyRequestsError, UnavailableError)):
            await units.write("t", lambda _: None, patience_s=0.1)
        refused.append(time.monotonic() - began)

    async def story() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(units.write, "t", lambda _: time.sleep(0.6))
            await anyio.sleep(0.05)
            group.start_soon(impatient)

    run(story)
    assert refused[0] < 0.4


def test_what_work_takes_is_an_average_of_late() -> None:
    async def story() -> None:
        places = FairLimiter(1)
        for _ in range(40):
            await places.run("t", time.sleep, 0.002)
        assert 0.001 < places._taken_s < 0.1

    run(story)
