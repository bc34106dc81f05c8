"""Claims and leases. Every function works in the caller's transaction; lease times are the database's clock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from api.db import epoch_now
from api.work.clock import LONGEST_DELAY_S, is_expired, is_past, is_recent
from api.work.models import Attempt, WorkerCapacity, WorkItem
from api.work.order import best
from api.work.states import Request, Slot, WorkState


@dataclass(frozen=True)
class Wants:
    """What a worker looks for, and the slots that it has for it."""

    kinds: Collection[str]
    slot: Slot
    free: int
    total: int
    images_patience_s: float
    """How long images on request wait for everything else."""
    across_tenants: bool = False
    """Whether priorities count across tenants."""


@dataclass(frozen=True)
class Lease:
    """One claim of one item: what a worker must show to write anything."""

    item_id: str
    fence: int
    kind: str
    subject_id: str
    traceparent: str | None = None
    """Trace parent of the span that asked for the work."""
    slots: int = 1


class LeaseLostError(Exception):
    """The item is no longer ours: end the child, write nothing."""


def claim(
    session: Session,
    *,
    kinds: Collection[str],
    slot: Slot,
    worker_id: str,
    lease_s: float,
    free: int = 1,
    images_patience_s: float = 600.0,
    across_tenants: bool = False,
) -> WorkItem | None:
    """Take the best waiting item that needs no more than the `free` slots by one statement, with its attempt; None if
    there is none.

    `api.work.order.best` says which that is. PostgreSQL passes over rows that another worker is taking; SQLite has one
    writer at a time.
    """
    taken = {
        "state": WorkState.LEASED,
        "fence": WorkItem.fence + 1,
        "worker_id": worker_id,
        "claimed_at": epoch_now(),
        "heartbeat_at": epoch_now(),
        "progress_at": epoch_now(),
        "lease_until": epoch_now() + lease_s,
        "lease_s": lease_s,
        "request": None,
    }
    turn = best(kinds, slot, free, images_patience_s=images_patience_s, across_tenants=across_tenants)
    next_one = turn.scalar_subquery()
    statement = update(WorkItem).where(WorkItem.id == next_one, WorkItem.state == WorkState.QUEUED)
    item = session.scalars(statement.values(taken).returning(WorkItem), execution_options=_FRESH).one_or_none()
    if item is not None:
        _begin_attempt(session, item, worker_id)
    return item


def _begin_attempt(session: Session, item: WorkItem, worker_id: str) -> None:
    started_at = item.claimed_at
    assert started_at is not None
    offered = session.get(WorkerCapacity, worker_id)
    attempt = Attempt(work_item_id=item.id, fence=item.fence, worker_id=worker_id, started_at=started_at)
    attempt.device = offered.device if offered is not None else None
    session.add(attempt)
    session.flush()


def gathers(session: Session, wants: Wants, worker_id: str, *, lease_s: float, patience_s: float) -> bool:
    """Return whether the worker leaves free slots idle, because the next item needs more of them than are free.

    Without it, small items would pass by a large one for ever. It must have waited for `patience_s`, and one worker at
    a time gathers slots for it; another that has enough of them takes it all the same.
    """
    if wants.free >= wants.total:
        return False
    patience = {"images_patience_s": wants.images_patience_s}
    first = session.scalar(best(wants.kinds, wants.slot, wants.total, **patience, across_tenants=wants.across_tenants))
    item = session.get(WorkItem, first, populate_existing=True) if first is not None else None
    now = _now(session)
    if item is None or item.slots <= wants.free or now - patience_s < item.created_at <= now + LONGEST_DELAY_S:
        return False
    if item.held_by not in {None, worker_id} and now < (item.held_until or 0.0) <= now + lease_s:
        return False
    item.held_by, item.held_until = worker_id, now + lease_s
    return True


def offer(
    session: Session, worker_id: str, *, gpu_slots: int, device: str | None = None, device_memory: int | None = None
) -> None:
    """Note that the worker looks for work or is at work, and on what it trains; forget those that have not for long."""
    now = _now(session)
    told = {"device": device, "device_memory": device_memory}
    session.merge(WorkerCapacity(worker_id=worker_id, gpu_slots=gpu_slots, seen_at=now, **told))
    session.execute(
        delete(WorkerCapacity).where(~is_recent(WorkerCapacity.seen_at, _OFFERS_KEPT_S)), execution_options=_UNSYNCED
    )


def most_slots(session: Session) -> int:
    """The most slots that a worker which was heard of lately has for one item; 0 if there is none."""
    query = select(func.max(WorkerCapacity.gpu_slots)).where(is_recent(WorkerCapacity.seen_at, _OFFER_STANDS_S))
    return session.scalar(query) or 0


def devices(session: Session) -> list[tuple[str, int | None]]:
    """Devices of the workers that were heard of lately and told what they have: name and bytes of memory."""
    query = select(WorkerCapacity.device, WorkerCapacity.device_memory).distinct()
    query = query.where(is_recent(WorkerCapacity.seen_at, _OFFER_STANDS_S), WorkerCapacity.device.is_not(None))
    return [(name, nbytes) for name, nbytes in session.execute(query) if name is not None]


def lease_of(item: WorkItem) -> Lease:
    """The lease that a claim gave."""
    return Lease(item.id, item.fence, item.kind, item.subject_id, item.traceparent, item.slots)


def hold(session: Session, lease: Lease) -> WorkItem:
    """Lock the item for the rest of the transaction, as its holder. First thing in every unit of a worker.

    Raises:
        LeaseLostError: another claim, a sweep or a cancel came between.
    """
    query = select(WorkItem).where(*_held(lease)).with_for_update()
    item = session.scalars(query, execution_options=_POPULATE).one_or_none()
    if item is None:
        raise LeaseLostError(f"work item {lease.item_id} is no longer held with fence {lease.fence}")
    return item


def renew(session: Session, lease: Lease, *, lease_s: float, progressed: bool = False) -> Request | None:
    """Prolong the lease, noting whether the child got on since; returns what the holder is asked to do.

    Raises:
        LeaseLostError: as `hold`.
    """
    beat: dict[str, Any] = {"heartbeat_at": epoch_now(), "lease_until": epoch_now() + lease_s, "lease_s": lease_s}
    if progressed:  # alive is not the same
        beat["progress_at"] = epoch_now()
    statement = update(WorkItem).where(*_held(lease)).values(beat).returning(WorkItem.fence, WorkItem.request)
    row = session.execute(statement, execution_options=_UNSYNCED).one_or_none()
    if row is None:
        raise LeaseLostError(f"work item {lease.item_id} is no longer held with fence {lease.fence}")
    return Request(row.request) if row.request else None


def finish(session: Session, item: WorkItem, reason: str, *, end_step: int | None = None) -> None:
    """Note that the item is done for good, and that its attempt, if one is open, ended for `reason`."""
    end_attempt(session, item, reason, end_step=end_step)
    _set(session, item, state=WorkState.DONE, finished_at=epoch_now(), lease_until=None, request=None)


def requeue(
    session: Session, item: WorkItem, reason: str, *, delay_s: float = 0.0, end_step: int | None = None
) -> None:
    """Put the item back into the queue, claimable after `delay_s`; it must be rung for again."""
    end_attempt(session, item, reason, end_step=end_step)
    _set(
        session,
        item,
        state=WorkState.QUEUED,
        run_after=epoch_now() + delay_s,
        lease_until=None,
        worker_id=None,
        request=None,
        rung_at=None,
    )


def reopen(session: Session, item: WorkItem) -> None:
    """Queue an item that was done, under the same fence: what its attempts wrote stays theirs."""
    changes = {"state": WorkState.QUEUED, "run_after": epoch_now(), "rung_at": None, "finished_at": None}
    _set(session, item, **changes, worker_id=None)


def begin_attempt(session: Session, item: WorkItem, *, start_step: int) -> None:
    """Note the step that the item's current attempt goes on from."""
    current = (Attempt.work_item_id == item.id) & (Attempt.fence == item.fence)
    session.execute(update(Attempt).where(current).values(start_step=start_step), execution_options=_UNSYNCED)


def note_resume(session: Session, lease: Lease, changed: Collection[str]) -> None:
    """The current attempt goes on from a checkpoint: exactly, unless something `changed`."""
    current = (Attempt.work_item_id == lease.item_id) & (Attempt.fence == lease.fence)
    session.execute(update(Attempt).where(current).values(changed=list(changed)), execution_options=_UNSYNCED)


def end_attempt(session: Session, item: WorkItem, reason: str, *, end_step: int | None = None) -> None:
    """Write how the item's current attempt ended, unless that is known already."""
    statement = update(Attempt).where(
        Attempt.work_item_id == item.id, Attempt.fence == item.fence, Attempt.ended_at.is_(None)
    )
    ended = {"ended_at": epoch_now(), "reason": reason, "end_step": end_step}
    session.execute(statement.values(ended), execution_options=_UNSYNCED)


def attempts(session: Session, item_id: str) -> list[Attempt]:
    """Return all attempts of an item, newest first."""
    query = select(Attempt).where(Attempt.work_item_id == item_id).order_by(Attempt.fence.desc())
    return list(session.scalars(query, execution_options=_POPULATE))


def expired(session: Session, limit: int = 100) -> list[str]:
    """Ids of items whose holder was silent for longer than its lease."""
    return list(session.scalars(select(WorkItem.id).where(is_expired()).order_by(WorkItem.lease_until).limit(limit)))


def end_leases(session: Session) -> None:
    """End every lease, whoever holds it; for who knows that nobody can hold one."""
    leased = update(WorkItem).where(WorkItem.state == WorkState.LEASED)
    session.execute(leased.values(lease_until=0.0), execution_options=_UNSYNCED)


def take_expired(session: Session, item_id: str) -> WorkItem | None:
    """Lock an expired item; None if it is not expired any more or another sweep has it."""
    query = select(WorkItem).where(WorkItem.id == item_id, is_expired()).with_for_update(skip_locked=True)
    return session.scalars(query, execution_options=_POPULATE).one_or_none()


def count_unrung(session: Session, *, older_than_s: float) -> int:
    """Waiting items that nobody rang for: their author died between commit and ring, or the broker was away."""
    query = select(func.count()).select_from(WorkItem)
    query = query.where(WorkItem.state == WorkState.QUEUED, WorkItem.rung_at.is_(None))
    return session.scalar(query.where(is_past(WorkItem.created_at, older_than_s))) or 0


_POPULATE = {"populate_existing": True}
_UNSYNCED = {"synchronize_session": False}
_FRESH = {**_POPULATE, **_UNSYNCED}


_OFFER_STANDS_S = 300.0
_OFFERS_KEPT_S = 86_400.0


def _now(session: Session) -> float:
    """The database's clock."""
    return session.scalar(select(epoch_now())) or 0.0


def _held(lease: Lease) -> list[ColumnElement[bool]]:
    return [WorkItem.id == lease.item_id, WorkItem.fence == lease.fence, WorkItem.state == WorkState.LEASED]


def _set(session: Session, item: WorkItem, **values: Any) -> None:
    statement = update(WorkItem).where(WorkItem.id == item.id).values(values).returning(WorkItem)
    session.scalars(statement, execution_options=_FRESH).one()
