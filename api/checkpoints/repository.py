from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.checkpoints.models import Checkpoint
from api.jobs.models import JobFile


def find(session: Session, tenant_id: str, checkpoint_id: str) -> Checkpoint | None:
    return session.scalar(select(Checkpoint).where(Checkpoint.id == checkpoint_id, Checkpoint.tenant_id == tenant_id))


def page(session: Session, job_id: str, *, after_step: int | None, limit: int, ascending: bool) -> list[Checkpoint]:
    """Up to `limit` rows beyond a step, the last step first unless `ascending`."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id)
    if after_step is not None:
        query = query.where(Checkpoint.step > after_step if ascending else Checkpoint.step < after_step)
    return list(session.scalars(query.order_by(Checkpoint.step if ascending else Checkpoint.step.desc()).limit(limit)))


def last_step(session: Session, job_id: str) -> int | None:
    return session.scalar(select(func.max(Checkpoint.step)).where(Checkpoint.job_id == job_id))


def exports(session: Session, job_id: str, kind: str) -> dict[int, JobFile]:
    """Exported models of a job, by step."""
    query = select(JobFile).where(JobFile.job_id == job_id, JobFile.kind == kind).order_by(JobFile.step, JobFile.id)
    return {file.step: file for file in session.scalars(query)}
