"""What workers told of their GPUs lately."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from api.db import epoch_now
from api.work.clock import is_recent
from api.work.models import GpuUse

_STANDS_S = 60.0
_KEPT_S = 3600.0
_MOST = 64


def tell(session: Session, worker_id: str, uses: Sequence[GpuUse]) -> None:
    """Keep what the worker tells of its GPUs in place of what it told before; forget those that fell silent."""
    now = session.scalar(select(epoch_now())) or 0.0
    session.execute(delete(GpuUse).where(or_(GpuUse.worker_id == worker_id, ~is_recent(GpuUse.seen_at, _KEPT_S))))
    for use in uses:
        use.seen_at = now
        session.add(use)


def lately_told(session: Session) -> list[GpuUse]:
    """Return the GPUs that a worker told of within a minute, at most 64, those of a worker together."""
    recent = select(GpuUse).where(is_recent(GpuUse.seen_at, _STANDS_S))
    return list(session.scalars(recent.order_by(GpuUse.worker_id, GpuUse.gpu).limit(_MOST)))
