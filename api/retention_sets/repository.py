from __future__ import annotations

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from api.retention_sets.models import RetentionArtifact, RetentionSet

_FRESH = {"populate_existing": True}


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
