"""Stored times against the database's clock, which may have been set back since they were stored.

A time of ours lies at most so far ahead as what it says lasts; one that lies further ahead is of a clock that was ahead
itself, and waiting for it could take years.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, or_
from sqlalchemy.orm import InstrumentedAttribute

from api.db import epoch_now
from api.work.models import WorkItem
from api.work.states import WorkState

LONGEST_DELAY_S = 60.0
"""Longest time for which work is put off, and by which a process's clock may be ahead of the database's."""
_FORGIVEN = 4 / 3  # of a lease: a clock set back by less costs no holder its work, which renews meanwhile


def is_expired() -> ColumnElement[bool]:
    """An item's holder was silent for longer than its lease, or the lease lies further ahead than it is long."""
    # A null lease must count as over: `null < x` is never true, and such an item would stay leased for ever.
    until = func.coalesce(WorkItem.lease_until, WorkItem.claimed_at, 0.0)
    length_s = func.coalesce(WorkItem.lease_s, until - WorkItem.heartbeat_at)
    over = or_(until < epoch_now(), until > epoch_now() + _FORGIVEN * length_s)
    return (WorkItem.state == WorkState.LEASED) & over


def is_past(moment: ColumnElement[float] | InstrumentedAttribute[Any], ago_s: float = 0.0) -> ColumnElement[bool]:
    """The moment came at least `ago_s` ago, by this clock or by one that was ahead."""
    return or_(moment <= epoch_now() - ago_s, moment > epoch_now() + LONGEST_DELAY_S)


def is_recent(moment: InstrumentedAttribute[float], within_s: float) -> ColumnElement[bool]:
    """The moment came in the last `within_s`."""
    return moment.between(epoch_now() - within_s, epoch_now() + LONGEST_DELAY_S)
