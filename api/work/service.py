from __future__ import annotations

import time

from sqlalchemy.orm import Session

from api.ids import new_id
from api.work.models import WorkItem
from api.work.states import Request, Slot, WorkState


def enqueue(
    session: Session,
    kind: str,
    subject_id: str,
    *,
    tenant_id: str,
    slot: Slot = Slot.CPU,
    slots: int = 1,
    priority: int = 0,
    traceparent: str | None = None,
) -> WorkItem:
    """Add a work item in the caller's transaction.

    `rung_at` stays null: whoever commits rings (`api.queue.ring`) afterwards, and the sweep rings for those who died
    between the two. `traceparent`: of the span that asked for it; None is the current one.
    """
    item = WorkItem(
        id=new_id("work"),
        tenant_id=tenant_id,
        kind=kind,
        subject_id=subject_id,
        slot=slot,
        slots=slots,
        priority=priority,
        created_at=time.time(),
        traceparent=traceparent,
    )
    session.add(item)
    return item


def request_stop(item: WorkItem | None, request: Request = Request.CANCEL) -> bool:
    """Request that the holder of a locked item stops, or take it out of the queue; return whether there is a holder."""
    if item is None:
        return False
    if item.state == WorkState.LEASED:
        item.request = request
        return True
    item.state, item.finished_at = WorkState.DONE, time.time()
    return False
