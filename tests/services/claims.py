"""Processes that race for work, started by `test_claims.py` with `spawn`: each its own engine, as workers are."""

from __future__ import annotations

from multiprocessing.synchronize import Barrier

from api.db import Database
from api.settings import Settings
from api.work import repository
from api.work.states import Slot, WorkKind
from worker.sweep import Sweep

_barriers: list[Barrier] = []


def join(barrier: Barrier) -> None:
    """As one of the processes that begin at once."""
    _barriers.append(barrier)


def claim_all(url: str, worker_id: str) -> list[tuple[str, int]]:
    """Claim until there is nothing left; ids and fences. Everybody begins at once."""
    database = Database(url)
    _barriers[0].wait()
    claimed = []
    while True:
        with database.write() as session:
            item = repository.claim(session, kinds=list(WorkKind), slot=Slot.GPU, worker_id=worker_id, lease_s=60.0)
        if item is None:
            database.close()
            return claimed
        claimed.append((item.id, item.fence))


def sweep_once(settings: Settings) -> int:
    """Recover what there is to recover; how much it was."""
    sweep = Sweep(settings)
    _barriers[0].wait()
    recovered = sweep.recover()
    sweep.close()
    return recovered
