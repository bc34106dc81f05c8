from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from api.idempotency.models import IdempotencyKey


def reserve(session: Session, tenant_id: str, scope: str, key: str, digest: str) -> bool:
    """Take the key for this transaction; False if it is taken. Waits for another request under way with it."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = {"tenant_id": tenant_id, "scope": scope, "key": key, "digest": digest, "created_at": time.time()}
    statement = insert(IdempotencyKey).values(values).on_conflict_do_nothing().returning(IdempotencyKey.key)
    return session.execute(statement).one_or_none() is not None


def find(session: Session, tenant_id: str, scope: str, key: str) -> IdempotencyKey | None:
    """A request that was carried out."""
    return session.get(IdempotencyKey, (tenant_id, scope, key), populate_existing=True)


def keep(session: Session, tenant_id: str, scope: str, key: str, answer: dict[str, Any]) -> None:
    """The answer to give again."""
    session.get_one(IdempotencyKey, (tenant_id, scope, key)).answer = answer


def forget(session: Session, *, older_than_s: float) -> int:
    """Delete what is older; how many keys that was."""
    statement = delete(IdempotencyKey).where(IdempotencyKey.created_at < time.time() - older_than_s)
    return len(session.scalars(statement.returning(IdempotencyKey.key)).all())
