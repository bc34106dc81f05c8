from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.keys.models import ApiKey


def find(session: Session, key_id: str) -> ApiKey | None:
    return session.get(ApiKey, key_id)


def list_of(session: Session, tenant_id: str) -> list[ApiKey]:
    return list(session.scalars(select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.id)))
