from __future__ import annotations

from enum import StrEnum


class ComparisonStatus(StrEnum):
    """`running` from the start of its first job until the report is there, or it is known that there will be none."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
