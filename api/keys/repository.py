from __future__ import annotations

import time

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from api.keys.models import ApiKey


def find(session: Session, key_id: str) -> ApiKey | None:
    return session.get(ApiKey, key_id)


def list_of(session: Session, tenant_id: str) -> list[ApiKey]:
    return list(session.scalars(select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.id)))


def list_all(session: Session) -> list[ApiKey]:
    """Of all tenants, each tenant's oldest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.tenant_id, ApiKey.id)))


def count_valid(session: Session) -> int:
    """How many keys work now."""
    return session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.revoked_at.is_(None), _lasts())) or 0


def valid_among(session: Session, key_ids: list[str]) -> set[str]:
    """Those that work now: neither revoked nor expired."""
    query = select(ApiKey.id).where(ApiKey.id.in_(key_ids), ApiKey.revoked_at.is_(None), _lasts())
    return set(session.scalars(query))


def _lasts() -> ColumnElement[bool]:
    return or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > time.time())
