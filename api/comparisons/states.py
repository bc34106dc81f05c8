from __future__ import annotations

from enum import StrEnum


class ComparisonStatus(StrEnum):
    """`running` from the start of its first job until the report is there, or it is known that there will be none."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = ComparisonStatus
ALLOWED: dict[ComparisonStatus, frozenset[ComparisonStatus]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
FINAL = frozenset(status for status, following in ALLOWED.items() if not following)
