from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base


class Checkpoint(Base):
    """A checkpoint whose files are all in the store. Keys contain job and fence and are never overwritten."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    step: Mapped[int]
    fence: Mapped[int]
    name: Mapped[str] = mapped_column(String(64))
    """Folder name in the trainer's out folder, for example `step-00000100`."""
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`[{"name", "key", "bytes", "sha256"}]`; `model.safetensors` is the weight average, the one to use."""
    resume_available: Mapped[bool] = mapped_column(default=True)
    """Whether the files that a resume needs are still in the store."""
    created_at: Mapped[float] = mapped_column(Double)
    linked_until: Mapped[float | None] = mapped_column(Double)
    """When the last download link that was handed out ends: whoever has it may begin to read until then."""
