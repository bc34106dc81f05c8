"""Whose turn it is: what is claimed next, and what gives way. A priority counts among its own tenant's items.

Across tenants it counts only where the operator says so (`DIFFTUNE_PRIORITY_ACROSS_TENANTS`): every key may name any
priority.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from sqlalchemy import ColumnElement, Select, Subquery, case, func, or_, select
from sqlalchemy.orm import Session, aliased

from api.db import epoch_now
from api.work.clock import is_past
from api.work.models import WorkItem
from api.work.states import Request, Slot, WorkKind, WorkState

_REMEMBERED_S = 7 * 86_400.0
_GIVE_WAY = (WorkKind.TRAIN, WorkKind.GENERATE)
"""Kinds of work that go on later from where they were."""


def best(
    kinds: Collection[str], slot: Slot, most: int, *, images_patience_s: float, across_tenants: bool = False
) -> Select[str]:
    """Id of the item that is next among those that need at most `most` slots, locked.

    The tenant that has the fewest slots goes first, then the one that was served longest ago, then the one whose oldest
    item is the oldest; of its items the one with the highest priority, then the oldest. `across_tenants`: the highest
    priority of all goes first. Images on request go after all else until they have waited for `images_patience_s` since
    they were asked for, or gave way; then they wait as everything does.
    """
    waiting, share = aliased(WorkItem), _shares(slot)
    wanted = (WorkItem.slot == slot, WorkItem.kind.in_(kinds), is_past(WorkItem.run_after), WorkItem.slots <= most)
    since = func.min(WorkItem.created_at).label("since")
    oldest = select(WorkItem.tenant_id, since).where(WorkItem.state == WorkState.QUEUED, *wanted)
    first = oldest.group_by(WorkItem.tenant_id).subquery()
    urgent = waiting.priority.desc()
    patient = (waiting.kind == WorkKind.GENERATE) & ~is_past(_waits_since(waiting), images_patience_s)
    return (
        select(waiting.id)
        .join(first, first.c.tenant_id == waiting.tenant_id)
        .outerjoin(share, share.c.tenant_id == waiting.tenant_id)
        .where(waiting.state == WorkState.QUEUED, waiting.slot == slot, waiting.kind.in_(kinds))
        .where(is_past(waiting.run_after), waiting.slots <= most)
        .order_by(case((patient, 1), else_=0), *([urgent] if across_tenants else []))
        .order_by(func.coalesce(share.c.running, 0), func.coalesce(share.c.served_at, 0.0))
        .order_by(first.c.since, waiting.tenant_id, urgent, waiting.created_at, waiting.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=waiting)
    )


def preempt(
    session: Session, slot: Slot, *, patience_s: float, images_patience_s: float, across_tenants: bool = False
) -> list[str]:
    """Ask the holders of trainings, and of images in work, to give way to more important items that have waited for
    `patience_s`.

    The least important training goes first, of equals the one that was claimed last. Those that end already, for
    whatever reason, count as having given way. A tenant's items give way to each other, and only where the slot would
    be its own again: no other tenant that waits has fewer. `across_tenants`: anybody's give way to anybody's. Images on
    request give way to all else first, whosoever: they go on where they were. Those that had waited for
    `images_patience_s` keep their slot for as long. Locks what is in work, so that of several sweeps each sees what the
    others asked. Returns the subjects that were asked.
    """
    in_work = select(WorkItem).where(WorkItem.state == WorkState.LEASED, WorkItem.slot == slot)
    had_waited = WorkItem.claimed_at - _waits_since(WorkItem) >= images_patience_s
    keeps = (WorkItem.kind == WorkKind.GENERATE) & had_waited & ~is_past(WorkItem.claimed_at, images_patience_s)
    trainings = in_work.where(WorkItem.kind.in_(_GIVE_WAY), ~keeps).order_by(WorkItem.id).with_for_update()
    held = list(session.scalars(trainings, execution_options={"populate_existing": True}))
    images = [item for item in held if item.kind == WorkKind.GENERATE]
    asked = _give_way(images, _waiting(session, slot, patience_s, len(images), WorkItem.kind != WorkKind.GENERATE))
    if across_tenants:
        return asked + _give_way(held, _waiting(session, slot, patience_s, len(held)))
    used, tenants = _slots_in_work(session, slot), _waiting_tenants(session, slot)
    for tenant_id in {item.tenant_id for item in held} & tenants:
        if any(used[other] < used[tenant_id] for other in tenants):
            continue
        ending = [item for item in images if item.request is not None]
        own = ending + [item for item in held if item.tenant_id == tenant_id and item not in ending]
        asked += _give_way(own, _waiting(session, slot, patience_s, len(own), WorkItem.tenant_id == tenant_id))
    return asked


def _give_way(held: list[WorkItem], waiting: list[int]) -> list[str]:
    """Ask of those `held` as many as are less important than those `waiting`, whose priorities come highest first."""
    lower = [item for item in held if waiting and item.priority < waiting[0]]
    ending = sum(item.request is not None for item in lower)
    running = sorted((i for i in lower if i.request is None), key=lambda i: (i.priority, -(i.claimed_at or 0.0)))
    asked = []
    for priority, item in zip(waiting[ending:], running, strict=False):
        if item.priority >= priority:
            break
        item.request = Request.PREEMPT
        asked.append(item.subject_id)
    return asked


def _waiting(session: Session, slot: Slot, patience_s: float, most: int, *those: ColumnElement[bool]) -> list[int]:
    """Priorities of those that wait, the highest first."""
    query = select(WorkItem.priority).where(WorkItem.state == WorkState.QUEUED, WorkItem.slot == slot, *those)
    query = query.where(WorkItem.slots == 1)  # one that needs several of one worker waits until they are gathered
    query = query.where(is_past(WorkItem.created_at, patience_s), is_past(WorkItem.run_after, patience_s))
    return list(session.scalars(query.order_by(WorkItem.priority.desc()).limit(most)))


def _waits_since(item: type[WorkItem]) -> ColumnElement[float]:
    """Return when the item was asked for, or last gave way."""
    return case((item.run_after > item.created_at, item.run_after), else_=item.created_at)


def _waiting_tenants(session: Session, slot: Slot) -> set[str]:
    query = select(WorkItem.tenant_id).where(WorkItem.state == WorkState.QUEUED, WorkItem.slot == slot)
    return set(session.scalars(query.where(is_past(WorkItem.run_after)).distinct()))


def _slots_in_work(session: Session, slot: Slot) -> Counter[str]:
    query = select(WorkItem.tenant_id, func.sum(WorkItem.slots))
    query = query.where(WorkItem.state == WorkState.LEASED, WorkItem.slot == slot).group_by(WorkItem.tenant_id)
    return Counter({tenant_id: int(slots) for tenant_id, slots in session.execute(query)})


def _shares(slot: Slot) -> Subquery:
    """Return what each tenant has of a kind of slot: how many, and when one was last claimed."""
    recent = or_(WorkItem.state == WorkState.LEASED, WorkItem.claimed_at > epoch_now() - _REMEMBERED_S)
    running = func.sum(case((WorkItem.state == WorkState.LEASED, WorkItem.slots), else_=0)).label("running")
    columns = (WorkItem.tenant_id, running, func.max(WorkItem.claimed_at).label("served_at"))
    return select(*columns).where(WorkItem.slot == slot, recent).group_by(WorkItem.tenant_id).subquery()
