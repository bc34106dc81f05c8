from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.comparisons.states import ALLOWED, ComparisonStatus
from api.db import Base


class Comparison(Base):
    """Several methods over several seeds on one data set; each run is an ordinary job."""

    __tablename__ = "comparisons"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in ComparisonStatus)})", name="status"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    status: Mapped[str] = mapped_column(String(16), default=ComparisonStatus.QUEUED)
    model: Mapped[str] = mapped_column(String(64))
    methods: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`[{name, method}]`, resolved, in the order of the report."""
    seeds: Mapped[list[int]] = mapped_column(JSON)
    evaluation: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Resolved; the same for every job."""
    control: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """Of ControlNets: resolved; the same for every job."""
    num_threads: Mapped[int | None]
    training_file: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    validation_file: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))
    suffix: Mapped[str | None] = mapped_column(String(64))
    metadata_: Mapped[dict[str, str] | None] = mapped_column("metadata", JSON)
    priority: Mapped[int] = mapped_column(default=0)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(4000))
    error_param: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[float] = mapped_column(Double)
    started_at: Mapped[float | None] = mapped_column(Double)
    cancel_requested_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)

    def set_status(self, status: ComparisonStatus) -> None:
        """The one setter.

        Raises:
            ValueError: the transition is not in the table.
        """
        if status not in ALLOWED[ComparisonStatus(self.status)]:
            raise ValueError(f"a comparison cannot go from {self.status} to {status}")
        self.status = status


class ComparisonJob(Base):
    """The job that runs one method with one seed."""

    __tablename__ = "comparison_jobs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    comparison_id: Mapped[str] = mapped_column(ForeignKey("comparisons.id", ondelete="CASCADE"), index=True)
    method: Mapped[str] = mapped_column(String(40))
    seed: Mapped[int] = mapped_column(BigInteger)
