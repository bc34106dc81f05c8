"""Deleting a comparison for good: its rows and joint report, and its jobs where they are to go with it."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session

from api.comparisons import repository, service
from api.comparisons.models import Comparison
from api.comparisons.states import FINAL
from api.errors import NotYetError, not_found
from api.jobs.removal import delete_job
from api.subjects import files
from api.work.models import WorkItem


def delete_comparison(session: Session, tenant_id: str, comparison_id: str, *, with_jobs: bool) -> list[str]:
    """Delete a final comparison; keys to delete after the commit. Its jobs become jobs like any other.

    Raises:
        NotFoundError: there is none.
        ConflictError: it is not final; or one of the jobs that are to go with it is in use, and then nothing goes.
    """
    service.get(session, tenant_id, comparison_id)
    repository.open_work(session, comparison_id)
    repository.lock_work_of_jobs(session, comparison_id)  # before the comparison, as everywhere
    comparison = repository.lock_if_there(session, comparison_id)
    if comparison is None:
        raise not_found("comparison", comparison_id)
    if comparison.status not in FINAL:
        message = f"The comparison {comparison_id} is {comparison.status}; cancel it first."
        raise NotYetError("comparison_not_final", message)
    job_ids = [member.job.id for member in repository.members_of(session, [comparison_id])[comparison_id]]
    keys = files.remove(session, comparison_id)
    session.execute(delete(WorkItem).where(WorkItem.subject_id == comparison_id))
    session.execute(delete(Comparison).where(Comparison.id == comparison_id))  # the rest goes by ON DELETE CASCADE
    for job_id in job_ids if with_jobs else []:
        keys += delete_job(session, tenant_id, job_id)
    return keys
