from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.comparisons.models import Comparison, ComparisonJob
from api.jobs.models import Job
from api.work.models import WorkItem
from api.work.states import WorkKind, WorkState


@dataclass(frozen=True)
class Member:
    """A job and what it is in its comparison."""

    method: str
    seed: int
    job: Job


def find(session: Session, tenant_id: str, comparison_id: str) -> Comparison | None:
    query = select(Comparison).where(Comparison.id == comparison_id, Comparison.tenant_id == tenant_id)
    return session.scalar(query)


def page(
    session: Session,
    tenant_id: str,
    *,
    after: str | None,
    limit: int,
    ascending: bool,
    statuses: Iterable[str] = (),
    model: str | None = None,
) -> list[Comparison]:
    """Up to `limit` rows beyond the id `after`, newest first unless `ascending`."""
    query = select(Comparison).where(Comparison.tenant_id == tenant_id)
    if statuses := list(statuses):
        query = query.where(Comparison.status.in_(statuses))
    if model:
        query = query.where(Comparison.model == model)
    if after:
        query = query.where(Comparison.id > after if ascending else Comparison.id < after)
    return list(session.scalars(query.order_by(Comparison.id if ascending else Comparison.id.desc()).limit(limit)))


def lock(session: Session, comparison_id: str) -> Comparison:
    """The comparison, locked for the rest of the transaction. Jobs are locked before it."""
    found = lock_if_there(session, comparison_id)
    assert found is not None
    return found


def lock_if_there(session: Session, comparison_id: str) -> Comparison | None:
    """As `lock`; None where another request has deleted it."""
    query = select(Comparison).where(Comparison.id == comparison_id).with_for_update()
    return session.scalar(query, execution_options={"populate_existing": True})


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
    """Lock the open work items of all its jobs, then the jobs: the order in which workers lock them."""
    job_ids = select(ComparisonJob.job_id).where(ComparisonJob.comparison_id == comparison_id)
    items = select(WorkItem.id).where(WorkItem.subject_id.in_(job_ids), WorkItem.state != WorkState.DONE)
    session.scalars(items.order_by(WorkItem.id).with_for_update()).all()
    session.scalars(select(Job.id).where(Job.id.in_(job_ids)).order_by(Job.id).with_for_update()).all()


def open_work(session: Session, comparison_id: str) -> WorkItem | None:
    """The making of its report that is not done, locked. Lock it before the comparison."""
    query = select(WorkItem).where(
        WorkItem.subject_id == comparison_id, WorkItem.kind == WorkKind.COMPARE, WorkItem.state != WorkState.DONE
    )
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))
