"""A thread that tells the database of the worker, while it works too: what its GPUs do, and that its slots stand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.db import Database
from api.work.gpu_uses import tell
from worker.gpus import Gpus

_EVERY_S = 10.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Teller:
    """What there is to tell of a worker."""

    worker_id: str
    gpus: Gpus
    is_busy: Callable[[], bool]
    """Whether work has slots, which look for none and so offer none."""
    offer: Callable[[Session], None]

    def begin(self, database: Database, ended: threading.Event) -> None:
        """Tell now and then until `ended`."""
        threading.Thread(target=self._go_on, args=(database, ended), name="telling", daemon=True).start()

    def _go_on(self, database: Database, ended: threading.Event) -> None:
        while True:
            self._tell(database)
            if ended.wait(_EVERY_S):
                return

    def _tell(self, database: Database) -> None:
        uses = self.gpus.uses(self.worker_id)  # the driver may take its time: no transaction waits for it
        if not (self.gpus.names or self.is_busy()):
            return
        try:
            with database.write() as session:
                tell(session, self.worker_id, uses)
                if self.is_busy():
                    self.offer(session)
        except SQLAlchemyError:
            log.warning("worker_not_told", exc_info=True)
