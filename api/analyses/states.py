from __future__ import annotations

from enum import StrEnum


class AnalysisStatus(StrEnum):
    """An analysis is `queued`, then `running` (again `queued` after a lost attempt), then final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
