from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.events.models import Event
from api.jobs.models import Job


def page(session: Session, job_id: str, *, after: int | None, limit: int, ascending: bool) -> list[Event]:
    """Up to `limit` events beyond number `after`, newest first unless `ascending`."""
    query = select(Event).where(Event.job_id == job_id)
    if after is not None:
        query = query.where(Event.number > after if ascending else Event.number < after)
    return list(session.scalars(query.order_by(Event.number if ascending else Event.number.desc()).limit(limit)))


def status_and_page(session: Session, job_id: str, *, after: int, limit: int) -> tuple[str | None, list[Event]]:
    """The job's status first, then events: under a final status none can follow those that are read here."""
    status = session.scalar(select(Job.status).where(Job.id == job_id))
    return status, page(session, job_id, after=after, limit=limit, ascending=True)
