"""The doorbell: a message that says only "look". Work items are the truth; a lost message costs a poll interval.

Of Celery only the delivery of that message is used: no results, retries, ETA, revoke or redelivery.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from queue import Empty
from time import time
from typing import Any

import structlog
from celery import Celery
from kombu.transport import filesystem
from kombu.utils.json import dumps, loads
from sqlalchemy import select, update

from api.db import Database
from api.settings import Settings
from api.work.models import WorkItem

LOOK = "look"
_QUEUE = "difftune"
_BATCH = 500
log = structlog.get_logger(__name__)


class _Channel(filesystem.Channel):
    """Kombu's file transport, but a message appears whole and is taken by whoever unlinks it.

    The original lets a reader move a file that its writer has opened and not yet filled, which ends the consumer with
    a JSON error, and passes messages through the system's temporary folder.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Path(self.data_folder_in).mkdir(parents=True, exist_ok=True)
        self.control_folder.mkdir(parents=True, exist_ok=True)

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:  # type: ignore[override]  # so in kombu
        name = f"{time():017.6f}_{uuid.uuid4().hex}.{queue}.msg"
        folder = Path(self.data_folder_out)
        aside = folder / f"{name}.part"
        aside.write_text(dumps(payload), encoding="utf-8")
        aside.rename(folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        del timeout
        for path in sorted(Path(self.data_folder_in).glob(f"*.{queue}.msg")):
            try:
                text = path.read_text(encoding="utf-8")
                path.unlink()
                return loads(text)
            except FileNotFoundError:
                continue  # another worker was faster
            except ValueError:
                log.warning("message_dropped", file=path.name)
        raise Empty


class FolderTransport(filesystem.Transport):
    """Celery's filesystem transport with whole messages."""

    Channel = _Channel


def create_celery(settings: Settings) -> Celery:
    """The Celery app of both ends. Nothing is connected yet."""
    app = Celery("difftune")
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=_QUEUE,
        task_publish_retry=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        **_broker(settings),
    )
    return app


def _broker(settings: Settings) -> dict[str, Any]:
    if settings.broker_url is not None:
        # Without max_retries kombu would try for ever to send one message.
        options: dict[str, Any] = {
            "max_retries": 1,
            "interval_start": 0,
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
        }
        return {"broker_url": settings.broker_url, "broker_transport_options": options}
    folder = settings.data_dir / "broker"
    messages, control = folder / "messages", folder / "control"
    options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "polling_interval": 0.2,
    }
    return {
        "broker_url": "filesystem://",
        "broker_transport": "api.queue:FolderTransport",
        "broker_transport_options": options,
    }


class Doorbell:
    """Rings the workers. Used after a commit: a worker that looks earlier finds nothing.

    Of many who ring at once one does it for all, so that they do not wait for each other in a queue for the database.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        """Make the doorbell; it connects at the first ring."""
        self._celery = create_celery(settings)
        self._database = database
        self._ringing = threading.Lock()
        self._asked = False

    def ring(self) -> bool:
        """Send "look" and note on every waiting item that it was rung for; False, and a log line, if that failed.

        Never raises: the sweep rings for items that nobody rang for, and workers look by themselves now and then. While
        another thread rings it is asked to ring once more, and this returns.
        """
        self._asked = True
        rang = True
        while self._asked and self._ringing.acquire(blocking=False):
            try:
                self._asked = False
                rang = self._ring()
            finally:
                self._ringing.release()
        return rang

    def _ring(self) -> bool:
        try:
            with self._database.read() as session:
                query = select(WorkItem.id).where(WorkItem.rung_at.is_(None)).limit(_BATCH)
                waiting = list(session.scalars(query))
            self._celery.send_task(LOOK, retry=False, ignore_result=True)
            if waiting:
                with self._database.write() as session:
                    rung = update(WorkItem).where(WorkItem.id.in_(waiting), WorkItem.rung_at.is_(None))
                    session.execute(rung.values(rung_at=time()))
        except Exception:  # whatever a broker or database throws: the ring is only a hint
            log.warning("doorbell_did_not_ring", exc_info=True)
            return False
        return True
