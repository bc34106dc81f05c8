from __future__ import annotations

from enum import StrEnum


class AnalysisStatus(StrEnum):
    """An analysis is `queued`, then `running` (again `queued` after a lost attempt), then final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = AnalysisStatus
ALLOWED: dict[AnalysisStatus, frozenset[AnalysisStatus]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
FINAL = frozenset(status for status, following in ALLOWED.items() if not following)
