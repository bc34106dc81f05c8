from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from api.jobs.models import Job, Metric
from api.jobs.states import JobStatus
from api.retention_sets.models import RetentionSet
from api.subjects.repository import paged
from api.work.models import WorkItem
from api.work.states import WorkKind


def page_of_ids(
    session: Session,
    tenant_id: str,
    *,
    after: str | None,
    limit: int,
    ascending: bool,
    statuses: Iterable[str] = (),
    model: str | None = None,
    metadata: dict[str, str] | None = None,
) -> list[str]:
    """Return up to `limit` ids beyond the id `after`, newest first unless `ascending`; `metadata` must all match."""
    query = select(Job.id).where(Job.tenant_id == tenant_id)
    if statuses := list(statuses):
        query = query.where(Job.status.in_(statuses))
    if model:
        query = query.where(or_(Job.model == model, Job.start_checkpoint == model))
    for name, value in (metadata or {}).items():
        query = query.where(Job.metadata_[name].as_string() == value)
    return list(session.scalars(paged(query, Job.id, after=after, limit=limit, ascending=ascending)))


def waiting_for(session: Session, dataset_id: str) -> list[Job]:
    """Jobs in `validating_files` that name the data set, locked, in the order of their ids."""
    uses = or_(Job.training_file == dataset_id, Job.validation_file == dataset_id)
    query = select(Job).where(uses, Job.status == JobStatus.VALIDATING_FILES).order_by(Job.id)
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


def waiting_for_retention(session: Session, artifact_id: str) -> list[Job]:
    """Jobs of any tenant in `validating_files` whose retention set is this artifact, locked, in order of their ids."""
    sets = select(RetentionSet.id).where(RetentionSet.artifact_id == artifact_id)
    query = select(Job).where(Job.retention_set.in_(sets), Job.status == JobStatus.VALIDATING_FILES).order_by(Job.id)
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


def last_work(session: Session, job_id: str) -> WorkItem | None:
    """The job's training, done or not, locked. Claims lock the item before the job: so must others."""
    query = select(WorkItem).where(WorkItem.subject_id == job_id, WorkItem.kind == WorkKind.TRAIN)
    query = query.order_by(WorkItem.created_at.desc()).limit(1)
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def metric_page(
    session: Session, job_id: str, *, names: list[str], after: tuple[str, int] | None, limit: int
) -> list[Metric]:
    """Values in order of name and step, beyond `after`."""
    query = select(Metric).where(Metric.job_id == job_id)
    if names:
        query = query.where(Metric.name.in_(names))
    if after:
        name, step = after
        query = query.where(or_(Metric.name > name, and_(Metric.name == name, Metric.step > step)))
    return list(session.scalars(query.order_by(Metric.name, Metric.step).limit(limit)))


def newest_points(session: Session, job_id: str, *, limit: int) -> list[tuple[str, int, float]]:
    """Name, step and value of up to `limit` values, those of the highest steps; in order of their steps."""
    query = select(Metric.name, Metric.step, Metric.value).where(Metric.job_id == job_id)
    rows = session.execute(query.order_by(Metric.step.desc(), Metric.name).limit(limit))
    return [(name, step, value) for name, step, value in rows][::-1]


def metrics_at(session: Session, job_id: str, step: int) -> dict[str, float]:
    """The value of each series that has one at this step."""
    query = select(Metric).where(Metric.job_id == job_id, Metric.step == step).order_by(Metric.name)
    return {metric.name: metric.value for metric in session.scalars(query)}
