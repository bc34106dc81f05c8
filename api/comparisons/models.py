from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base
from api.subjects.models import OwnedSubject, one_of
from api.subjects.states import Status


class Comparison(OwnedSubject, Base):
    """Several methods over several seeds on one data set; each run is an ordinary job.

    It is `running` from the start of its first job; the work item that makes its report comes when the last has ended.
    """

    __tablename__ = "comparisons"
    __table_args__ = (one_of(Status),)
    noun = "comparison"

    model: Mapped[str] = mapped_column(String(64))
    methods: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`[{name, method}]`, resolved, in the order of the report."""
    seeds: Mapped[list[int]] = mapped_column(JSON)
    evaluation: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Resolved; the same for every job."""
    control: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The resolved condition of ControlNets, the same for every job."""
    num_threads: Mapped[int | None]
    training_file: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    validation_file: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))
    suffix: Mapped[str | None] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(default=0)
    cancel_requested_at: Mapped[float | None] = mapped_column(Double)


class ComparisonJob(Base):
    """The job that runs one method with one seed."""

    __tablename__ = "comparison_jobs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    comparison_id: Mapped[str] = mapped_column(ForeignKey("comparisons.id", ondelete="CASCADE"), index=True)
    method: Mapped[str] = mapped_column(String(40))
    seed: Mapped[int] = mapped_column(BigInteger)
