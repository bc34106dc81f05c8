"""A thread that tells the database what the worker's GPUs do, while they work too."""

from __future__ import annotations

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.db import Database
from api.work.gpu_uses import tell
from worker.gpus import Gpus

_EVERY_S = 10.0
log = structlog.get_logger(__name__)


def watch_gpus(gpus: Gpus, database: Database, worker_id: str, ended: threading.Event) -> None:
    """Begin to tell, until `ended`; a worker without GPUs has nothing to tell."""
    if gpus.names:
        arguments = (gpus, database, worker_id, ended)
        threading.Thread(target=_tell, args=arguments, name="GPU use", daemon=True).start()


def _tell(gpus: Gpus, database: Database, worker_id: str, ended: threading.Event) -> None:
    while True:
        uses = gpus.uses(worker_id)  # the driver may take its time: no transaction waits for it
        try:
            with database.write() as session:
                tell(session, worker_id, uses)
        except SQLAlchemyError:
            log.warning("gpu_use_not_told", exc_info=True)
        if ended.wait(_EVERY_S):
            return
