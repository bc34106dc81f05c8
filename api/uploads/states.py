from __future__ import annotations

from enum import StrEnum


class UploadStatus(StrEnum):
    """OpenAI's words. `pending` takes parts; the others are final."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
