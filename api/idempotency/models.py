from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base


class IdempotencyKey(Base):
    """A request that was carried out, written in its own transaction: who sends it again gets the answer again."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    scope: Mapped[str] = mapped_column(String(255), primary_key=True)
    """Method and path."""
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    """Digest of the body in canonical form."""
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The answer, null only inside the transaction that carries the request out."""
    created_at: Mapped[float] = mapped_column(Double, index=True)
