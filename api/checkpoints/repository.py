from __future__ import annotations

from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.jobs.models import Checkpoint
from api.subjects import files
from api.subjects.models import ResultFile
from api.subjects.repository import paged


def find(
    session: Session, tenant_id: str, checkpoint_id: str, *, lock: Literal["read", "write"] | None = None
) -> Checkpoint | None:
    """Find a tenant's checkpoint; a lock (`read` to name it, `write` to change it) keeps it from being collected."""
    query = select(Checkpoint).where(Checkpoint.id == checkpoint_id, Checkpoint.tenant_id == tenant_id)
    if lock is not None:
        query = query.with_for_update(read=lock == "read").execution_options(populate_existing=True)
    return session.scalar(query)


def page(session: Session, job_id: str, *, after_step: int | None, limit: int, ascending: bool) -> list[Checkpoint]:
    """Up to `limit` rows beyond a step, the last step first unless `ascending`."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id)
    return list(session.scalars(paged(query, Checkpoint.step, after=after_step, limit=limit, ascending=ascending)))


def last_step(session: Session, job_id: str) -> int | None:
    return session.scalar(select(func.max(Checkpoint.step)).where(Checkpoint.job_id == job_id))


def exports(session: Session, job_id: str, kind: str) -> dict[int, ResultFile]:
    """Exported models of a job, by step."""
    of_kind = (ResultFile.subject_id == job_id, ResultFile.kind == kind)
    query = select(ResultFile).where(*of_kind).order_by(ResultFile.step, ResultFile.id)
    return {file.step: file for file in session.scalars(query)}


def beyond_newest(session: Session, job_id: str, count: int) -> list[Checkpoint]:
    """List all but the newest `count`, locked, the newest first; those that somebody else has locked are left out."""
    newest = select(Checkpoint.step).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step.desc())
    oldest_of_them = session.scalar(newest.offset(count - 1).limit(1))
    if oldest_of_them is None:
        return []
    query = select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step < oldest_of_them)
    query = query.order_by(Checkpoint.step.desc()).with_for_update(skip_locked=True)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def remove(session: Session, checkpoint: Checkpoint) -> list[str]:
    """Delete the rows of a checkpoint and of its exports; return the keys to delete after the commit."""
    exports = (ResultFile.step == checkpoint.step, ResultFile.kind.startswith("export_", autoescape=True))
    keys = [file.key for file in checkpoint.stored] + files.remove(session, checkpoint.job_id, *exports)
    session.delete(checkpoint)
    return keys
