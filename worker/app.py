"""Celery's side of a worker: `celery -A worker.app worker --pool=threads`, or, as we start it, `python -m worker`.

Celery delivers "look" and knows when the process is to end; the work itself runs in the slots of `worker.service`.
A pool of threads is needed: on prefork a running task never sees `worker_shutting_down`.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from celery import signals

from api.queue import create_celery
from api.settings import Settings
from worker import tasks
from worker.service import Worker

settings = Settings()
app = create_celery(settings)


@cache
def started_worker() -> Worker:
    """This process's worker, started at the first call."""
    worker = Worker(settings)
    tasks.register(app, worker)
    worker.start()
    return worker


@signals.worker_init.connect
def _start(**_: Any) -> None:
    started_worker()


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    started_worker().drain()


@signals.worker_shutdown.connect
def _join(**_: Any) -> None:
    if started_worker().draining:  # else Celery has broken down by itself, and the slots work on
        started_worker().join()


@signals.setup_logging.connect
def _keep_logging(**_: Any) -> None:
    """Celery leaves logging as `python -m worker` has set it up."""
    logging.getLogger("celery").setLevel(logging.WARNING)
