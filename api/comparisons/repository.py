from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.comparisons.models import ComparisonJob
from api.jobs.models import Job
from api.work.models import WorkItem
from api.work.states import WorkState


@dataclass(frozen=True)
class Member:
    """A job of a comparison, with its method and seed there."""

    method: str
    seed: int
    job: Job


def of_job(session: Session, job_id: str) -> str | None:
    """Id of the comparison that the job belongs to."""
    return session.scalar(select(ComparisonJob.comparison_id).where(ComparisonJob.job_id == job_id))


def members_of(session: Session, comparison_ids: list[str]) -> dict[str, list[Member]]:
    """Jobs by comparison, in the order in which they were made; as they are committed, whatever was loaded before."""
    query = select(ComparisonJob, Job).join(Job, Job.id == ComparisonJob.job_id).order_by(Job.id)
    query = query.where(ComparisonJob.comparison_id.in_(comparison_ids)).execution_options(populate_existing=True)
    found: dict[str, list[Member]] = defaultdict(list)
    for row, job in session.execute(query):
        found[row.comparison_id].append(Member(row.method, row.seed, job))
    return found


def lock_work_of_jobs(session: Session, comparison_id: str) -> None:
    """Lock the open work items of a comparison's jobs, then the jobs: the order in which workers lock them."""
    job_ids = select(ComparisonJob.job_id).where(ComparisonJob.comparison_id == comparison_id)
    items = select(WorkItem.id).where(WorkItem.subject_id.in_(job_ids), WorkItem.state != WorkState.DONE)
    session.scalars(items.order_by(WorkItem.id).with_for_update()).all()
    session.scalars(select(Job.id).where(Job.id.in_(job_ids)).order_by(Job.id).with_for_update()).all()
