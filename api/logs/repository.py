from __future__ import annotations

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from api.logs.models import LogChunk


def page(
    session: Session, job_id: str, *, attempt: int | None, after: tuple[int, int] | None, limit: int
) -> list[LogChunk]:
    """Up to `limit` pieces beyond (attempt, number), oldest first."""
    query = select(LogChunk).where(LogChunk.job_id == job_id)
    if attempt is not None:
        query = query.where(LogChunk.attempt == attempt)
    if after is not None:
        later = and_(LogChunk.attempt == after[0], LogChunk.number > after[1])
        query = query.where(or_(LogChunk.attempt > after[0], later))
    return list(session.scalars(query.order_by(LogChunk.attempt, LogChunk.number).limit(limit)))
