from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.db import Base
from api.retention_sets.states import ALLOWED, RetentionSetStatus


class RetentionArtifact(Base):
    """The images themselves: made once and stored once, whoever asked for them. No tenant sees its id."""

    __tablename__ = "retention_artifacts"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in RetentionSetStatus)})", name="status"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    live_key: Mapped[str | None] = mapped_column(String(128), unique=True)
    """Who may share it, and its digest; null once it is of no use, so that another may be made."""
    digest: Mapped[str] = mapped_column(String(64))
    """Content address: of base model and settings, or of base model and archive."""
    model: Mapped[str] = mapped_column(String(64))
    base_digest: Mapped[str] = mapped_column(String(64))
    settings: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The complete `RetentionSetConfig`; null for uploaded images."""
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    """Where uploaded images are taken from."""
    status: Mapped[str] = mapped_column(String(16), default=RetentionSetStatus.QUEUED)
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int]
    key: Mapped[str | None] = mapped_column(String(512))
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    """Of the stored file."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(2000))
    created_at: Mapped[float] = mapped_column(Double)
    settled_at: Mapped[float | None] = mapped_column(Double)

    def set_status(self, status: RetentionSetStatus) -> None:
        """The one setter.

        Raises:
            ValueError: the transition is not in the table.
        """
        if status not in ALLOWED[RetentionSetStatus(self.status)]:
            raise ValueError(f"a retention set cannot go from {self.status} to {status}")
        self.status = status


class RetentionSet(Base):
    """A tenant's own name for an artifact."""

    __tablename__ = "retention_sets"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("retention_artifacts.id"), index=True)
    training_file: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))
    metadata_: Mapped[dict[str, str] | None] = mapped_column("metadata", JSON)
    created_at: Mapped[float] = mapped_column(Double)
    cancelled_at: Mapped[float | None] = mapped_column(Double)
    """When this tenant gave it up; others may still want it."""
    deleted_at: Mapped[float | None] = mapped_column(Double)
    artifact: Mapped[RetentionArtifact] = relationship(lazy="joined", innerjoin=True)

    @property
    def status(self) -> RetentionSetStatus:
        """As its tenant sees it."""
        return RetentionSetStatus.CANCELLED if self.cancelled_at else RetentionSetStatus(self.artifact.status)
