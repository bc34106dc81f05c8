from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import JSON, CheckConstraint, Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.analyses.states import ALLOWED, AnalysisStatus
from api.db import Base
from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.stored import read_stored


class Analysis(Base):
    """A look at tuned models as a user asked for it, and how it stands."""

    __tablename__ = "analyses"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in AnalysisStatus)})", name="status"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    type: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16), default=AnalysisStatus.QUEUED)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The complete config of its type (`difftune_core.config.analysis`)."""
    checkpoints: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`[{"id", "name", "job_id", "step"}]`, in the order of the request; names are those of the report."""
    training_file: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    validation_file: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    metadata_: Mapped[dict[str, str] | None] = mapped_column("metadata", JSON)
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(2000))
    error_param: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[float] = mapped_column(Double)
    started_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)

    @cached_property
    def chain(self) -> ChainOfForgetting:
        """`config` as this version reads it; it was judged when it was submitted, and is not judged again."""
        return read_stored(ChainOfForgetting, self.config)

    def set_status(self, status: AnalysisStatus) -> None:
        """The one setter.

        Raises:
            ValueError: the transition is not in the table.
        """
        if status not in ALLOWED[AnalysisStatus(self.status)]:
            raise ValueError(f"an analysis cannot go from {self.status} to {status}")
        self.status = status
