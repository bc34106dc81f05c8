"""Why an attempt ended: what the user reads, and whether another attempt follows. One table."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from api.db import is_full
from api.storage import StoreError
from api.work.clock import LONGEST_DELAY_S
from api.work.endings import Ending, Verdict
from difftune_core.files import is_disk_full
from difftune_core.hooks import TaskError

DISK_FULL = "disk_full"
_UNLIMITED = 1_000_000
_OUTAGE = 1_440  # attempts a minute apart: a day
_MAX_DOUBLINGS = 30


@dataclass(frozen=True)
class Rule:
    """`retries`: attempts that may follow attempts which ended so, one after the other, without getting on."""

    message: str
    retries: int | None
    """How often the work is tried again; None: as often as the settings allow (`max_attempts`)."""
    gives_up_as: str | None = None
    """Reason shown when the budget is spent; None: the code itself."""


RULES = {
    # Not the job's fault, and nothing that could go on for ever: always another attempt, at once.
    "drain": Rule("The worker was shut down.", _UNLIMITED),
    "preempted": Rule("More important work took the place.", _UNLIMITED),
    "paused": Rule("Paused.", _UNLIMITED),
    "workspace_busy": Rule("The {child} of an earlier attempt had not ended yet.", _UNLIMITED),
    # Crashes: another attempt from the last checkpoint, later and later.
    "worker_lost": Rule("The worker fell silent.", None, "crash_loop"),
    "killed": Rule("The {child} was killed.", None, "crash_loop"),
    "crashed": Rule("The {child} ended without a word.", None, "crash_loop"),
    "stopped": Rule("The {child} stopped without being asked to.", None, "crash_loop"),
    "stalled": Rule("The {child} got no further.", None, "stalled"),
    # Surroundings that heal, if somebody sees to it: a job of a week is not lost to an evening's outage.
    "store_unavailable": Rule("The object store did not answer.", _OUTAGE),
    "database_unavailable": Rule("The database did not answer.", _OUTAGE),
    DISK_FULL: Rule("The worker's disk is full.", _OUTAGE),
    "config_of_newer_version": Rule("The job was submitted to a newer version.", _OUTAGE),
    "damaged_file": Rule("A file was damaged on its way.", None),
    "supervisor_error": Rule("The worker failed in an unforeseen way.", None),
    # May be chance: one more try.
    "out_of_memory": Rule("The {child} ran out of memory.", 1),
    "internal_error": Rule("The {child} failed in an unforeseen way.", 1),
    # Would happen again.
    "object_missing": Rule("A file is not in the store any more.", 0),
}
AT_ONCE = frozenset({"drain", "preempted", "paused"})
_DEFAULT = Rule("", 0)  # whatever the trainer names itself: diverged, dataset_invalid, invalid_config, ...


def of_exit(status: int, child: str = "trainer") -> Ending:
    """The ending of a child that left no outcome. `status` is as `subprocess` gives it: negative for a signal."""
    if status >= 0:
        return Ending("crashed", f"The {child} ended with status {status} and without an outcome.")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return Ending("killed", f"The {child} was killed by {name}.")


def of_exception(error: Exception) -> Ending:
    """The ending of an attempt in which the supervisor itself failed."""
    if isinstance(error, TaskError):
        return Ending(error.code, str(error), error.param)
    if is_disk_full(error) or is_full(error):
        return Ending(DISK_FULL)
    if isinstance(error, StoreError):
        return Ending("store_unavailable")
    if isinstance(error, SQLAlchemyError):
        return Ending("database_unavailable")
    return Ending("supervisor_error", f"The worker failed in an unforeseen way ({type(error).__name__}).")


def judge(
    ending: Ending, earlier: Sequence[str], *, max_attempts: int, retry_delay_s: float, child: str = "trainer"
) -> Verdict:
    """Return whether another attempt follows.

    Args:
        ending: of the newest attempt, which is not `succeeded`.
        earlier: endings of the attempts before it that did not get on either, newest first.
        max_attempts: attempts in a row without progress before a crashing item fails.
        child: what the child process is called.
        retry_delay_s: wait before the second attempt; doubled with each further one.
    """
    rule = RULES.get(ending.code, _DEFAULT)
    said = rule.message.format(child=child)
    message = ending.message or said or f"The {child} failed: {ending.code}."
    if ending.code == "internal_error":
        message = said  # the exception's text may name folders of the worker; its log has it
    if ending.code in AT_ONCE:
        return Verdict(ending.code, message, 0.0)
    patient = {_UNLIMITED, _OUTAGE}
    failures = [code for code in earlier if RULES.get(code, _DEFAULT).retries not in patient]
    same = 1 + sum(code == ending.code for code in earlier)
    in_a_row = 1 + len(failures)
    allowed = max_attempts - 1 if rule.retries is None else rule.retries
    if same <= allowed and (in_a_row < max_attempts or rule.retries in patient):
        doublings = min(_MAX_DOUBLINGS, (same if rule.retries == _OUTAGE else in_a_row) - 1)
        return Verdict(ending.code, message, min(LONGEST_DELAY_S, retry_delay_s * 2.0**doublings))
    if rule.gives_up_as:
        message = f"{message} {in_a_row} attempts in a row got no further."
    return Verdict(rule.gives_up_as or ending.code, message, None)
