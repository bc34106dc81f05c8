from __future__ import annotations

import errno
import signal

import pytest
from sqlalchemy.exc import OperationalError

from api.storage import StoreError
from difftune_core.hooks import TaskError
from worker.failures import AT_ONCE, RULES, Ending, judge, of_exception, of_exit


def verdict(code: str, earlier: list[str]) -> tuple[str, float | None]:
    found = judge(Ending(code), earlier, max_attempts=4, retry_delay_s=1.0)
    return found.code, found.delay_s


def test_crashes_wait_longer_each_time_and_then_fail() -> None:
    assert [verdict("killed", ["killed"] * n) for n in range(4)] == [
        ("killed", 1.0),
        ("killed", 2.0),
        ("killed", 4.0),
        ("crash_loop", None),
    ]


def test_crashes_of_different_kinds_share_one_budget() -> None:
    assert verdict("killed", ["worker_lost", "crashed"])[1] == 4.0
    assert verdict("killed", ["worker_lost", "crashed", "stopped"]) == ("crash_loop", None)


def test_a_drain_is_never_counted_and_never_waits() -> None:
    assert verdict("drain", ["killed"] * 50) == ("drain", 0.0)
    assert verdict("killed", ["drain"] * 50) == ("killed", 1.0)


@pytest.mark.parametrize("code", ["store_unavailable", "database_unavailable", "disk_full"])
def test_an_outage_is_waited_for_and_does_not_count_against_the_job(code: str) -> None:
    assert [verdict(code, [code] * n)[1] for n in (0, 1, 2, 50, 1000)] == [1.0, 2.0, 4.0, 60.0, 60.0]
    assert verdict("killed", [code] * 50) == ("killed", 1.0)
    assert verdict(code, ["killed"] * 3) == (code, 1.0)


@pytest.mark.parametrize(("code", "tries"), [("out_of_memory", 2), ("internal_error", 2), ("object_missing", 1)])
def test_budgets_by_kind(code: str, tries: int) -> None:
    assert verdict(code, [code] * (tries - 1)) == (code, None)
    if tries > 1:
        assert verdict(code, [code] * (tries - 2))[1] is not None


def test_the_wait_has_an_end() -> None:
    assert judge(Ending("killed"), ["killed"] * 30, max_attempts=100, retry_delay_s=1.0).delay_s == 60.0


@pytest.mark.parametrize("code", [code for code in RULES if code not in {*AT_ONCE, "workspace_busy"}])
def test_nothing_goes_on_for_ever(code: str) -> None:
    found = judge(Ending(code), [code] * 2000, max_attempts=4, retry_delay_s=1.0)
    assert found.delay_s is None
    assert found.message


def test_signals_and_exceptions_have_names() -> None:
    assert of_exit(-signal.SIGSEGV) == Ending("killed", "The trainer was killed by SIGSEGV.")
    assert of_exit(1).code == of_exit(0).code == "crashed"
    assert of_exception(OSError(errno.ENOSPC, "full")).code == "disk_full"
    assert of_exception(StoreError("away")).code == "store_unavailable"
    assert of_exception(OperationalError("select", {}, Exception())).code == "database_unavailable"
    assert of_exception(TaskError("workspace_busy", "busy", "x")) == Ending("workspace_busy", "busy", "x")
    assert of_exception(KeyError("secret")).message == "The worker failed in an unforeseen way (KeyError)."
