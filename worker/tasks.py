"""Celery's tasks by name."""

from __future__ import annotations

from celery import Celery

from api.queue import LOOK
from worker.service import Worker


def register(app: Celery, worker: Worker) -> None:
    """The one task: look for work."""
    app.task(name=LOOK)(worker.look)
