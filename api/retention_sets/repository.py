from __future__ import annotations

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from api.retention_sets.models import RetentionArtifact, RetentionSet
from api.retention_sets.states import FINAL, RetentionSetStatus
from api.work.models import WorkItem
from api.work.states import WorkState

_FRESH = {"populate_existing": True}


def find(session: Session, tenant_id: str, set_id: str) -> RetentionSet | None:
    """One that is not deleted."""
    query = select(RetentionSet).where(RetentionSet.id == set_id, RetentionSet.tenant_id == tenant_id)
    return session.scalar(query.where(RetentionSet.deleted_at.is_(None)), execution_options=_FRESH)


def page(
    session: Session,
    tenant_id: str,
    *,
    after: str | None,
    limit: int,
    ascending: bool,
    status: RetentionSetStatus | None = None,
    model: str | None = None,
) -> list[RetentionSet]:
    """Up to `limit` rows beyond the id `after`, newest first unless `ascending`."""
    query = select(RetentionSet).join(RetentionArtifact, RetentionArtifact.id == RetentionSet.artifact_id)
    query = query.where(RetentionSet.tenant_id == tenant_id, RetentionSet.deleted_at.is_(None))
    if status == RetentionSetStatus.CANCELLED:
        query = query.where(RetentionSet.cancelled_at.is_not(None) | (RetentionArtifact.status == status))
    elif status:
        query = query.where(RetentionSet.cancelled_at.is_(None), RetentionArtifact.status == status)
    if model:
        query = query.where(RetentionArtifact.model == model)
    if after:
        query = query.where(RetentionSet.id > after if ascending else RetentionSet.id < after)
    order = RetentionSet.id if ascending else RetentionSet.id.desc()
    return list(session.scalars(query.order_by(order).limit(limit)))


def lock(session: Session, artifact_id: str) -> RetentionArtifact:
    """The artifact, locked for the rest of the transaction."""
    query = select(RetentionArtifact).where(RetentionArtifact.id == artifact_id).with_for_update()
    return session.scalars(query, execution_options=_FRESH).one()


def lock_live(session: Session, live_key: str) -> RetentionArtifact | None:
    """The artifact that whoever has this key shares, locked."""
    query = select(RetentionArtifact).where(RetentionArtifact.live_key == live_key).with_for_update()
    return session.scalar(query, execution_options=_FRESH)


def named_by(session: Session, artifact_id: str, tenant_id: str | None = None) -> list[RetentionSet]:
    """The rows that still want the artifact, oldest first."""
    wanted: list[ColumnElement[bool]] = [RetentionSet.cancelled_at.is_(None), RetentionSet.deleted_at.is_(None)]
    if tenant_id is not None:
        wanted.append(RetentionSet.tenant_id == tenant_id)
    query = select(RetentionSet).where(RetentionSet.artifact_id == artifact_id, *wanted).order_by(RetentionSet.id)
    return list(session.scalars(query))


def made_from(session: Session, dataset_id: str) -> list[str]:
    """Ids of the sets that are being made from a data set."""
    query = select(RetentionSet.id).join(RetentionArtifact, RetentionArtifact.id == RetentionSet.artifact_id)
    query = query.where(RetentionArtifact.dataset_id == dataset_id, RetentionArtifact.status.not_in(FINAL))
    return list(session.scalars(query.where(RetentionSet.deleted_at.is_(None)).order_by(RetentionSet.id)))


def open_work(session: Session, artifact_id: str) -> WorkItem | None:
    """The artifact's work that is not done, locked. Claims lock the item before the artifact: so must others."""
    query = select(WorkItem).where(WorkItem.subject_id == artifact_id, WorkItem.state != WorkState.DONE)
    return session.scalar(query.with_for_update(), execution_options=_FRESH)
