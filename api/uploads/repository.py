from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.uploads.models import Upload, UploadPart
from api.uploads.states import UploadStatus


def find(session: Session, tenant_id: str, upload_id: str, *, lock: bool = False) -> Upload | None:
    query = select(Upload).where(Upload.id == upload_id, Upload.tenant_id == tenant_id)
    return session.scalar(query.with_for_update() if lock else query)


def parts_of(session: Session, upload_id: str) -> list[UploadPart]:
    return list(session.scalars(select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.id)))


def part_page(session: Session, upload_id: str, *, after: str | None, limit: int, ascending: bool) -> list[UploadPart]:
    query = select(UploadPart).where(UploadPart.upload_id == upload_id)
    if after:
        query = query.where(UploadPart.id > after if ascending else UploadPart.id < after)
    return list(session.scalars(query.order_by(UploadPart.id if ascending else UploadPart.id.desc()).limit(limit)))


def received_bytes(session: Session, upload_id: str) -> int:
    """Sum of the parts that came through the API."""
    return session.scalar(select(func.sum(UploadPart.bytes)).where(UploadPart.upload_id == upload_id)) or 0


def overdue(session: Session, now: float, limit: int) -> list[Upload]:
    """Pending uploads whose time is over, locked; those that another process holds are left to it."""
    query = select(Upload).where(Upload.status == UploadStatus.PENDING, Upload.expires_at < now).limit(limit)
    return list(session.scalars(query.with_for_update(skip_locked=True)))
