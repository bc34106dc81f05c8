"""Processes that race for work, started by `test_claims.py` with `spawn`: each its own engine, as workers are."""

from __future__ import annotations

import time

from api.db import Database
from api.settings import Settings
from api.work import repository
from api.work.states import Slot, WorkKind
from worker.sweep import Sweep


def claim_all(url: str, worker_id: str, start_at: float) -> list[tuple[str, int]]:
    """Claim until there is nothing left; ids and fences. Everybody begins at once."""
    database = Database(url)
    time.sleep(max(0.0, start_at - time.time()))
    claimed = []
    while True:
        with database.write() as session:
            item = repository.claim(session, kinds=list(WorkKind), slot=Slot.GPU, worker_id=worker_id, lease_s=60.0)
        if item is None:
            database.close()
            return claimed
        claimed.append((item.id, item.fence))


def sweep_once(settings: Settings, start_at: float) -> int:
    """Recover what there is to recover; how much it was."""
    sweep = Sweep(settings)
    time.sleep(max(0.0, start_at - time.time()))
    recovered = sweep.recover()
    sweep.close()
    return recovered
