"""What is said of a process that left its group: as the supervisor says it of a trainer."""

from __future__ import annotations

import signal

import pytest

from difftune_core.train.group import NO_MEMORY, _outcome


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (0, "crashed", "The trainer's process 1 ended with status 0."),
        (3, "crashed", "The trainer's process 1 ended with status 3."),
        (-signal.SIGKILL, "killed", "The trainer's process 1 was killed by SIGKILL."),
        (-99, "killed", "The trainer's process 1 was killed by signal 99."),
    ],
)
def test_it_is_named_by_its_rank_and_how_it_ended(status: int, code: str, message: str) -> None:
    outcome = _outcome(1, status)
    assert (outcome.code, outcome.message) == (code, message)


def test_one_that_had_no_memory_says_what_to_do() -> None:
    outcome = _outcome(1, NO_MEMORY)
    assert (outcome.code, outcome.param) == ("out_of_memory", "batch_size")
