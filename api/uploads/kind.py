from __future__ import annotations

from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from api.datasets.kind import VALIDATION
from api.datasets.models import Dataset
from api.subjects.kinds import Owner
from api.uploads.models import Upload, UploadPart
from api.uploads.states import UploadStatus


class _Uploads(Owner):
    """Parts of files. No work is done on an upload, but its objects are looked through like any."""

    folder = "uploads"
    noun = "upload"

    def named(self, session: Session, subject_id: str | None = None) -> dict[str, str | None]:
        """Name the parts of one until the sweep has forgotten them; once it is a data set, what that names.

        Of all uploads, the parts that have come for those that go on.
        """
        if subject_id is None:
            pending = (
                select(UploadPart.key, UploadPart.sha256).join(Upload).where(Upload.status == UploadStatus.PENDING)
            )
            return {row.key: row.sha256 for row in session.execute(pending.where(UploadPart.bytes.is_not(None)))}
        upload = session.get(Upload, subject_id)
        if upload is None:
            return {}
        if upload.dataset_id is not None:
            return VALIDATION.named(session, upload.dataset_id)
        return dict.fromkeys(session.scalars(select(UploadPart.key).where(UploadPart.upload_id == subject_id)))

    def brought_bytes(self, session: Session, tenant_id: str) -> int:
        """Count what is announced and still to come, or to become a data set."""
        pending = (Upload.tenant_id == tenant_id, Upload.status == UploadStatus.PENDING)
        return int(session.scalar(select(func.sum(Upload.bytes)).where(*pending)) or 0)

    def holder_of(self, session: Session, key: str) -> str:
        """Name the data set that a part belongs to by now, if there is one."""
        holds_it = cast(Dataset.parts, Text).contains(f'"{key}"', autoescape=True)
        dataset_id = session.scalar(select(Dataset.id).where(holds_it).limit(1))
        return super().holder_of(session, key) if dataset_id is None else f"{VALIDATION.noun} {dataset_id}"


UPLOADS = _Uploads()
