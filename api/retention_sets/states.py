from __future__ import annotations

from enum import StrEnum


class RetentionSetStatus(StrEnum):
    """A set is `queued`, then `running` while it is made (again `queued` after a lost attempt), then final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
