"""Single images that users upload with the purpose `vision`: what a ControlNet follows."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.storage import StoredFile
from api.subjects.kinds import Owner
from api.subjects.plain import PlainSubject


class VisionFile(PlainSubject):
    """An uploaded image. No work is done on it: it is a subject that has succeeded, and `config` names its object."""

    noun = "file"
    __mapper_args__ = {"polymorphic_identity": "vision_file"}  # noqa: RUF012  # SQLAlchemy's own

    @property
    def stored(self) -> StoredFile:
        """The file itself."""
        return StoredFile(**self.config)


class _VisionFiles(Owner):
    folder = "vision_files"
    noun = "image file"

    def named(self, session: Session, subject_id: str | None = None) -> dict[str, str | None]:
        """Name the objects."""
        query = select(VisionFile)
        if subject_id is not None:
            query = query.where(VisionFile.id == subject_id)
        return {row.stored.key: row.stored.sha256 for row in session.scalars(query)}

    def brought_bytes(self, session: Session, tenant_id: str) -> int:
        """Count the bytes of all the tenant's images."""
        rows = session.scalars(select(VisionFile).where(*VisionFile.seen_by(tenant_id)))
        return sum(row.stored.bytes for row in rows)


VISION_FILES = _VisionFiles()
