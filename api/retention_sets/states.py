from __future__ import annotations

from enum import StrEnum


class RetentionSetStatus(StrEnum):
    """A set is `queued`, then `running` while it is made (again `queued` after a lost attempt), then final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = RetentionSetStatus
ALLOWED: dict[RetentionSetStatus, frozenset[RetentionSetStatus]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
FINAL = frozenset(status for status, following in ALLOWED.items() if not following)
