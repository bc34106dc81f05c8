from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base


class Event(Base):
    """Something that happened to a job, in order of `number`."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[str] = mapped_column(String(8))
    """info, warn or error."""
    type: Mapped[str] = mapped_column(String(16))
    """OpenAI's `message` and `metrics`, and ours: `phase`, `progress`, `status`, `checkpoint`, `best`."""
    message: Mapped[str] = mapped_column(String(4000))
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(Double)

    @property
    def id(self) -> str:
        """Public id, sortable within its job."""
        return f"evt_{self.job_id.removeprefix('ftjob_')}_{self.number:08d}"
