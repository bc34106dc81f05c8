"""How many bytes a tenant may keep: of data sets, and of uploads that are still to become one, as announced."""

from __future__ import annotations

import zlib

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.errors import QuotaError
from api.settings import Settings
from api.subjects.kinds import owners

_LOCKS = 0x71_75_6F_74  # the first half of a PostgreSQL advisory lock; any constant of our own


def reserve(session: Session, settings: Settings, tenant_id: str, num_bytes: int, *, param: str) -> None:
    """Make sure that there is room, in the transaction that takes it: no two of a tenant's see the same room.

    Raises:
        QuotaError: there is not.
    """
    quota = settings.quota_bytes
    if quota is None:
        return
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one write unit at a time anyway
        number = zlib.crc32(tenant_id.encode()) - 2**31
        session.execute(select(func.pg_advisory_xact_lock(_LOCKS, number)))
    taken = used_bytes(session, tenant_id)
    if taken + num_bytes > quota:
        message = f"{num_bytes} bytes are more than is left: {taken} of {quota} are taken. Delete data sets or uploads."
        raise QuotaError(
            "quota_exceeded", message, param=param, pointer=f"#/{param}", quota_bytes=quota, used_bytes=taken
        )


def used_bytes(session: Session, tenant_id: str) -> int:
    """Return what counts against the tenant's quota."""
    return sum(owner.brought_bytes(session, tenant_id) for owner in owners())
