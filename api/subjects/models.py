from __future__ import annotations

from sqlalchemy import BigInteger, Double, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base
from api.ids import new_id


class ResultFile(Base):
    """A file that work on a subject has made and that lies in the store: report, samples, export.

    Whatever its subject is: a job, a comparison, an analysis. Those of jobs are listed as OpenAI files.
    """

    __tablename__ = "result_files"
    __table_args__ = (Index("ix_result_files_subject_id", "subject_id", "kind", "step"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("file"))
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    subject_id: Mapped[str] = mapped_column(String(40))
    """No foreign key, for it may be of any kind: `api.subjects.files.remove` goes with the subject's end."""
    kind: Mapped[str] = mapped_column(String(32))
    """`difftune_core.hooks.ArtifactEvent.kind`."""
    step: Mapped[int] = mapped_column(default=0)
    """Of the training that it shows; 0 where there is none."""
    filename: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(512))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    content_type: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[float] = mapped_column(Double)
