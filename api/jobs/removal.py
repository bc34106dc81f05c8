"""Deleting a job for good: its rows, and what of it lies in the store."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from api.analyses import repository as analyses
from api.checkpoints.models import Checkpoint
from api.comparisons import repository as comparisons
from api.errors import ConflictError, NotYetError
from api.jobs import repository, service
from api.jobs.models import Job
from api.jobs.states import FINAL
from api.subjects import files
from api.work.models import WorkItem


def delete_job(session: Session, tenant_id: str, job_id: str) -> list[str]:
    """Delete a job that has ended, with events, metrics, checkpoints and reports; keys to delete after the commit.

    Raises:
        NotFoundError: there is none.
        ConflictError: it has not ended, an analysis looks at one of its checkpoints, or it belongs to a comparison.
    """
    service.get(session, tenant_id, job_id)
    repository.open_work(session, job_id)  # locked before the job, as everywhere
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    if job.status not in FINAL:
        raise NotYetError("job_not_final", f"Job {job_id} is {job.status}; cancel it first.")
    if comparison := comparisons.of_job(session, job_id):
        message = f"Job {job_id} belongs to the comparison {comparison}."
        raise ConflictError("job_in_use", message, comparisons=[comparison])
    checkpoints = list(session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id)))
    if looks := analyses.live_users_of_checkpoints(session, tenant_id, [row.id for row in checkpoints]):
        message = f"The checkpoints of job {job_id} are used by {', '.join(looks[:5])}."
        raise NotYetError("job_in_use", message, analyses=looks)
    keys = [file["key"] for row in checkpoints for file in row.files]
    keys += files.remove(session, job_id)
    session.execute(delete(WorkItem).where(WorkItem.subject_id == job_id))
    session.execute(delete(Job).where(Job.id == job_id))  # the rest goes by ON DELETE CASCADE
    return keys
