from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base
from api.uploads.states import UploadStatus


class Upload(Base):
    """A file that arrives in parts, each an object of its own; completing names them in order and copies nothing."""

    __tablename__ = "uploads"
    __table_args__ = (CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in UploadStatus)})", name="status"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    status: Mapped[str] = mapped_column(String(16), default=UploadStatus.PENDING)
    filename: Mapped[str] = mapped_column(String(255))
    mime_type: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Announced size of the whole file."""
    options: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """Options of the data set that the upload becomes (`DatasetOptions`)."""
    created_at: Mapped[float] = mapped_column(Double)
    expires_at: Mapped[float] = mapped_column(Double, index=True)
    dataset_id: Mapped[str | None] = mapped_column(String(40))
    """Set by completion."""


class UploadPart(Base):
    """One received part."""

    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    key: Mapped[str] = mapped_column(String(512))
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Size of the part; null while a presigned part has not been seen in the store."""
    announced: Mapped[int | None] = mapped_column(BigInteger)
    """The bytes that the link of a presigned part allows."""
    signed_at: Mapped[float | None] = mapped_column(Double)
    """When the part's newest link was given out."""
    sha256: Mapped[str | None] = mapped_column(String(64))
    """Known where the part came through the API."""
    created_at: Mapped[float] = mapped_column(Double)
