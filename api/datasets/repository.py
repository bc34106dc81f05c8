from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.subjects.repository import paged


def find(session: Session, tenant_id: str, dataset_id: str, *, lock: bool = False) -> Dataset | None:
    """One that is not deleted. Locked, its status stands still until the caller's transaction ends.

    Not its key: who only writes rows that name it, as workers do all the time, must not wait for a submission.
    """
    query = select(Dataset).where(
        Dataset.id == dataset_id, Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None)
    )
    return session.scalar(query.with_for_update(key_share=True) if lock else query)


def page(
    session: Session, tenant_id: str, *, after: str | None, limit: int, ascending: bool, status: str | None = None
) -> list[Dataset]:
    """Up to `limit` rows beyond the id `after`, newest first unless `ascending`."""
    query = select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
    if status:
        query = query.where(Dataset.status == status)
    return list(session.scalars(paged(query, Dataset.id, after=after, limit=limit, ascending=ascending)))
