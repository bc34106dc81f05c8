"""Keeping a lease: the heartbeat, and the knowledge that it stopped in time."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import structlog

from api.db import Database, is_full
from api.room import Reserve
from api.settings import Settings
from api.work import repository
from api.work.repository import Lease, LeaseLostError
from api.work.states import Request

_FENCE_AFTER = 2 / 3  # of the lease: the child is dead before the lease can pass to another worker
_STUCK_AFTER = 2.0
_RETRY_S = 0.5
log = structlog.get_logger(__name__)


class Heartbeat:
    """Renews a lease in a thread of its own, with a short transaction each time, and reads what the holder is asked.

    Whether the lease is lost is a question to the monotonic clock, so a renewal that hangs or a process that was
    stopped for a while cannot believe that it still holds. A holder that gets no further for twice as long as its
    child may stand still is stuck itself: its heart stops, so that another goes on.
    """

    def __init__(self, database: Database, lease: Lease, *, since: float, settings: Settings) -> None:
        """`since`: monotonic time just before the claim."""
        self.lease = lease
        self._database = database
        self._lease_s = settings.lease_s
        self._heartbeat_s = settings.heartbeat_s
        self._reserve = Reserve(settings.data_dir)
        self._stuck_s = _STUCK_AFTER * settings.stall_s
        self._renewed_at = since
        self._progressed_at = since
        self._told_at = since
        self._refused = False
        self._request: Request | None = None
        self._ended = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {lease.subject_id}", daemon=True)

    def __enter__(self) -> Self:
        """Begin to beat."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Beat no more; a renewal under way is not waited for longer than a moment."""
        self._ended.set()
        self._wake.set()
        self._thread.join(timeout=1.0)

    @property
    def lost(self) -> bool:
        """Whether the lease was refused, or could not be renewed for two thirds of its length; once lost, for good.

        Who saw it lost has killed the child: a renewal that gets through later must not bring it back to life.
        """
        if time.monotonic() - self._renewed_at > self._lease_s * _FENCE_AFTER:
            self._refused = True
        return self._refused

    @property
    def request(self) -> Request | None:
        """What the holder is asked to do."""
        return self._request

    @property
    def stalled_s(self) -> float:
        """Seconds since progress was last heard of."""
        return time.monotonic() - self._progressed_at

    def progressed(self) -> None:
        """Note that the work got on, which is more than being alive."""
        self._progressed_at = time.monotonic()

    def nudge(self) -> None:
        """Beat now: somebody may have asked for something."""
        self._wake.set()

    def check(self) -> None:
        """Check that the lease is still held.

        Raises:
            LeaseLostError: it is not.
        """
        if self.lost:
            raise LeaseLostError(f"the lease of work item {self.lease.item_id} could not be renewed in time")

    def _beat(self) -> None:
        while not self._ended.is_set():
            self._wake.clear()
            pause_s = self._heartbeat_s if self._renew() else min(_RETRY_S, self._heartbeat_s)
            if self._refused:
                return
            self._wake.wait(pause_s)

    def _renew(self) -> bool:
        if self.stalled_s > self._stuck_s:
            log.error("holder_is_stuck", subject=self.lease.subject_id)
            self._refused = True
            return False
        began, progressed_at = time.monotonic(), self._progressed_at
        progressed = progressed_at > self._told_at
        try:
            with self._database.write() as session:
                request = repository.renew(session, self.lease, lease_s=self._lease_s, progressed=progressed)
        except LeaseLostError:
            self._refused = True
            return False
        except Exception as error:  # whatever a database throws: what counts is the time since the last success
            if is_full(error):  # a full disk must cost nobody a lease
                self._reserve.release()
            log.warning("lease_not_renewed", subject=self.lease.subject_id, exc_info=True)
            return False
        self._renewed_at, self._told_at, self._request = began, progressed_at, request
        took_s = time.monotonic() - began
        if took_s > self._lease_s / 4:
            log.warning("lease_renewed_slowly", subject=self.lease.subject_id, took_s=round(took_s, 3))
        return True
