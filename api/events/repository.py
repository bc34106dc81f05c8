from __future__ import annotations

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from api.jobs.models import Event, Job
from api.subjects.repository import paged

_AT_ONCE = 500


def page(session: Session, job_id: str, *, after: int | None, limit: int, ascending: bool) -> list[Event]:
    """Up to `limit` events beyond number `after`, newest first unless `ascending`."""
    query = select(Event).where(Event.job_id == job_id)
    return list(session.scalars(paged(query, Event.number, after=after, limit=limit, ascending=ascending)))


def states_of(session: Session, job_ids: list[str]) -> list[Row[str, str, str, int]]:
    """Id, tenant, status and number of the last event of the jobs that are there.

    Read before their events: under a final status none can follow those that are read then.
    """
    found: list[Row[str, str, str, int]] = []
    columns = select(Job.id, Job.tenant_id, Job.status, Job.last_event)
    for begin in range(0, len(job_ids), _AT_ONCE):
        found += session.execute(columns.where(Job.id.in_(job_ids[begin : begin + _AT_ONCE]))).all()
    return found
