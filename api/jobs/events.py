from __future__ import annotations

import time
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from api.jobs.models import Event, Job


def append(
    session: Session, job: Job, type_: str, message: str, *, data: dict[str, Any] | None = None, level: str = "info"
) -> Event:
    """Add an event to a job, in the caller's transaction.

    The number comes from the job's row under its lock: a reader that follows by number never misses a late commit.
    """
    number = session.scalar(
        update(Job).where(Job.id == job.id).values(last_event=Job.last_event + 1).returning(Job.last_event)
    )
    assert number is not None
    event = Event(
        job_id=job.id, number=number, level=level, type=type_, message=message, data=data, created_at=time.time()
    )
    session.add(event)
    return event
