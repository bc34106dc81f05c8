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


def part(session: Session, upload_id: str, part_id: str) -> UploadPart | None:
    return session.scalar(select(UploadPart).where(UploadPart.id == part_id, UploadPart.upload_id == upload_id))


def count_parts(session: Session, upload_id: str) -> tuple[int, int]:
    """Return how many parts there are, and their bytes: received, or allowed by a link."""
    size = func.coalesce(UploadPart.bytes, UploadPart.announced)
    query = select(func.count(), func.sum(size)).where(UploadPart.upload_id == upload_id)
    count, total = session.execute(query).one()
    return count, int(total or 0)


def overdue(session: Session, now: float, limit: int) -> list[Upload]:
    """Pending uploads whose time is over, locked; those that another process holds are left to it."""
    query = select(Upload).where(Upload.status == UploadStatus.PENDING, Upload.expires_at < now).limit(limit)
    return list(session.scalars(query.with_for_update(skip_locked=True)))
