from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnElement, Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.db import Base
from api.subjects.models import Counted, Labelled, Owned, Subject, one_of
from api.subjects.states import Status


class RetentionArtifact(Counted, Subject, Base):
    """The images themselves: made once and stored once, whoever asked for them. No tenant sees its id."""

    __tablename__ = "retention_artifacts"
    __table_args__ = (one_of(Status),)
    noun = "retention_set"

    live_key: Mapped[str | None] = mapped_column(String(128), unique=True)
    """Who may share the artifact, and its digest; null once it is of no use, so that another may be made."""
    digest: Mapped[str] = mapped_column(String(64))
    """Content address: of base model and settings, or of base model and archive."""
    model: Mapped[str] = mapped_column(String(64))
    base_digest: Mapped[str] = mapped_column(String(64))
    settings: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The complete `RetentionSetConfig`; null for uploaded images."""
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    """The data set that uploaded images are taken from."""
    key: Mapped[str | None] = mapped_column(String(512))
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    """Digest of the stored file."""


class RetentionSet(Labelled, Owned, Base):
    """A tenant's own name for an artifact."""

    __tablename__ = "retention_sets"
    noun = "retention_set"

    artifact_id: Mapped[str] = mapped_column(ForeignKey("retention_artifacts.id"), index=True)
    training_file: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))
    cancelled_at: Mapped[float | None] = mapped_column(Double)
    """When this tenant gave the set up; others may still want its images."""
    deleted_at: Mapped[float | None] = mapped_column(Double)
    artifact: Mapped[RetentionArtifact] = relationship(lazy="joined", innerjoin=True)

    @classmethod
    def seen_by(cls, tenant_id: str) -> list[ColumnElement[bool]]:
        """The sets that the tenant has not deleted."""
        return [*super().seen_by(tenant_id), cls.deleted_at.is_(None)]

    @property
    def status(self) -> Status:
        """The set's status as its tenant sees it."""
        return Status.CANCELLED if self.cancelled_at else Status(self.artifact.status)
