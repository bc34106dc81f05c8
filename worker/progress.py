"""A child's progress on its way into a row: the newest only, about twice a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from difftune_core.hooks import ProgressEvent
from worker.run import Run

_FLUSH_S = 0.5


class ProgressNotes:
    """The last progress event that is not written yet. Used by one thread."""

    def __init__(self, run: Run, write: Callable[[Session, ProgressEvent], None]) -> None:
        """`write` changes the subject's row."""
        self._run = run
        self._write = write
        self._newest: ProgressEvent | None = None
        self._flushed_at = 0.0

    def heard(self, event: ProgressEvent) -> None:
        """Remember an event in place of the one before."""
        self._newest = event

    def flush_if_due(self) -> None:
        """Write the newest progress, unless some was written just now."""
        if time.monotonic() - self._flushed_at >= _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what was heard last, if it is not written yet.

        Raises:
            LeaseLostError: the run is not ours any more.
        """
        event, self._newest = self._newest, None
        if event is not None:
            self._flushed_at = time.monotonic()
            self._run.insist(lambda: self._note(event))

    def _note(self, event: ProgressEvent) -> None:
        with self._run.unit() as (session, _):
            self._write(session, event)
