"""One claimed item while it is worked on: what every part of the supervisor needs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from api.db import Database, is_full
from api.room import Reserve
from api.settings import Settings
from api.storage import ObjectStore, StoreError
from api.work import repository
from api.work.endings import Ending
from api.work.models import WorkItem
from api.work.repository import Lease
from api.work.states import Request
from difftune_core.holding import hold
from difftune_core.hooks import FileInfo, TaskError
from worker.lease import Heartbeat
from worker.warm import WarmChildren
from worker.workspace import Workspace

_UPLOAD_TRIES = 6
_T = TypeVar("_T")
log = structlog.get_logger(__name__)


class Stopped(Exception):  # noqa: N818  # no error: it was requested
    """The run ends before its child has started."""


@dataclass(frozen=True)
class Tools:
    """What a worker process has, shared by all its runs."""

    settings: Settings
    database: Database
    store: ObjectStore
    trainer_command: tuple[str, ...]
    """Begins the child's command line; `python -m difftune_core`."""
    drain: threading.Event = field(default_factory=threading.Event)
    """Set when the worker is to end."""
    warm: WarmChildren = field(default_factory=WarmChildren)
    """Processes that wait for further requests for images."""


@dataclass
class Run:
    """An attempt with its lease, its folder, and the ways to write."""

    tools: Tools
    lease: Lease
    heartbeat: Heartbeat
    workspace: Workspace
    held: list[int] = field(default_factory=list)
    """Descriptors that keep what the run uses from eviction: the child has them too, and so holds on to it."""

    def hold(self, path: Path) -> Path:
        """Keep an entry of the shared cache, which was fetched or found just now, until the run's child has ended."""
        if (descriptor := hold(path)) is not None:
            self.held.append(descriptor)
        return path

    def using(self, path: Path, ensure: Callable[[], Path]) -> Path:
        """Hold, as `hold` does, what `ensure` fetches to `path` where it is not.

        Looking at what is there may take long.
        """
        self.hold(path)
        return self.hold(ensure())

    def let_go(self) -> None:
        """Leave what is held to the child, if there is one."""
        while self.held:
            os.close(self.held.pop())

    @property
    def request(self) -> Request | None:
        """Why the run is to end early, if it is; a user's request goes before the worker's own."""
        return self.heartbeat.request or (Request.DRAIN if self.tools.drain.is_set() else None)

    def check(self) -> None:
        """Check that the run is to go on. To be called while something gets on: a download, for example.

        Raises:
            LeaseLostError: it is not ours any more.
            Stopped: it is to end early.
        """
        self.heartbeat.check()
        self.heartbeat.progressed()
        if self.request is not None:
            raise Stopped

    def stopped(self, request: Request | None, message: str = "") -> Ending:
        """The ending of a run that stopped because of a request, or of itself."""
        return Ending(request.ending if request else "stopped", message)

    @contextmanager
    def unit(self) -> Iterator[tuple[Session, WorkItem]]:
        """Open one transaction as the holder of the lease.

        Raises:
            LeaseLostError: it is not ours any more; nothing was written.
        """
        with self.tools.database.write() as session:
            yield session, repository.hold(session, self.lease)

    def insist(self, act: Callable[[], _T]) -> _T:
        """Try again while the database does not answer, as long as the lease can be ours."""
        while True:
            try:
                return act()
            except (OperationalError, InterfaceError) as error:
                self.heartbeat.check()
                if is_full(error):
                    Reserve(self.tools.settings.data_dir).release()
                log.warning("database_does_not_answer", exc_info=True)
                time.sleep(min(1.0, self.tools.settings.heartbeat_s))

    def upload(self, key: str, path: Path, file: FileInfo, *, content_type: str) -> None:
        """Store a file that the child has finished, trying again for about a minute.

        Raises:
            StoreError: the store did not take it.
            TaskError: `damaged_file`, it is not what the child has written.
        """
        for attempt in range(_UPLOAD_TRIES):
            self.heartbeat.check()
            try:
                stored = self.tools.store.put_file(key, path, content_type=content_type, sha256=file.sha256)
            except StoreError:
                if attempt == _UPLOAD_TRIES - 1:
                    raise
                log.warning("upload_tried_again", key=key, exc_info=True)
                time.sleep(2.0**attempt)
            else:
                break
        self.heartbeat.progressed()
        if stored.bytes != file.bytes or stored.sha256 not in {None, file.sha256}:
            raise TaskError("damaged_file", f"{file.path} changed between writing and uploading.")
