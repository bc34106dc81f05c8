"""Deleting a job for good: its rows, and what of it lies in the store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.errors import ConflictError, NotYetError
from api.jobs.models import Checkpoint, Job
from api.jobs.states import FINAL
from api.subjects.kinds import owner, refuse_used, users_of
from api.subjects.repository import get, lock_seen, open_work, remove


def delete_job(session: Session, tenant_id: str, job_id: str) -> list[str]:
    """Delete a job that has ended, with events, metrics, checkpoints and reports; keys to delete after the commit.

    Raises:
        NotFoundError: there is none.
        ConflictError: it has not ended, an analysis or another job needs one of its checkpoints, or it belongs to a
            comparison.
    """
    get(session, Job, tenant_id, job_id)
    open_work(session, job_id)  # locked before the job, as everywhere
    job = lock_seen(session, Job, tenant_id, job_id)
    if job.status not in FINAL:
        raise NotYetError("job_not_final", f"Job {job_id} is {job.status}; cancel it first.")
    for folder, holders in users_of(session, tenant_id, job_id).items():
        if holders:
            message = f"Job {job_id} belongs to the {owner(folder).noun} {holders[0]}."
            extra: dict[str, Any] = {folder: holders}
            raise ConflictError("job_in_use", message, **extra)
    query = select(Checkpoint).where(Checkpoint.job_id == job_id).with_for_update()  # until whoever names one is seen
    checkpoints = list(session.scalars(query.execution_options(populate_existing=True)))
    what = f"The checkpoints of job {job_id} are"
    refuse_used(session, tenant_id, [row.id for row in checkpoints], "job_in_use", what)
    return [file.key for row in checkpoints for file in row.stored] + remove(session, job)
