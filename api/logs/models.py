from __future__ import annotations

from sqlalchemy import Double, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base


class LogChunk(Base):
    """A piece of what an attempt's trainer printed, in order of `number`."""

    __tablename__ = "log_chunks"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)

    @property
    def id(self) -> str:
        """Public id, sortable within its job."""
        return f"log_{self.job_id.removeprefix('ftjob_')}_{self.attempt:06d}_{self.number:06d}"
