from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from api.keys.models import ApiKey


def find(session: Session, key_id: str) -> ApiKey | None:
    return session.get(ApiKey, key_id)


def list_of(session: Session, tenant_id: str, *, limit: int | None = None) -> list[ApiKey]:
    """The tenant's keys, the oldest first; up to `limit` of them."""
    return list(session.scalars(select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.id).limit(limit)))


def list_all(session: Session) -> list[ApiKey]:
    """The keys of all tenants, each tenant's oldest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.tenant_id, ApiKey.id)))


def note_uses(session: Session, used_at: Mapping[str, float]) -> None:
    """Keep when keys were used last, unless a later use is known: other processes note theirs."""
    for key_id, moment in sorted(used_at.items()):
        known = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < moment)
        session.execute(update(ApiKey).where(ApiKey.id == key_id, known).values(last_used_at=moment))


def count_valid(session: Session) -> int:
    """Return how many keys work now."""
    return session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.revoked_at.is_(None), _lasts())) or 0


def valid_among(session: Session, key_ids: list[str]) -> set[str]:
    """The keys that work now: neither revoked nor expired."""
    query = select(ApiKey.id).where(ApiKey.id.in_(key_ids), ApiKey.revoked_at.is_(None), _lasts())
    return set(session.scalars(query))


def _lasts() -> ColumnElement[bool]:
    return or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > time.time())
