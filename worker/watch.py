"""The eye on a running child, which ends it: on demand, with the lease, when it takes too much or stands still."""

from __future__ import annotations

import signal
import threading
import time

import structlog

from api.subjects.kinds import kind_of
from api.work.endings import Ending
from api.work.states import Request
from difftune_core.hooks import Command
from worker.child import Child
from worker.memory import resident_bytes
from worker.run import Run

_TICK_S = 0.05
_MEASURE_S = 0.5
_TERM_GRACE_S = 5.0
_EXIT_GRACE_S = 30.0
log = structlog.get_logger(__name__)


class Watch(threading.Thread):
    """Ends the child: on request, when the lease is lost, when it does not go by itself; and reaps it."""

    def __init__(self, run: Run, child: Child) -> None:
        """Watch `child` on behalf of `run`."""
        super().__init__(name=f"watch {child.pid}", daemon=True)
        self.status = 0
        """The child's exit status, once the thread has ended."""
        self.requested: Request | None = None
        """What was requested of the child last."""
        self.fault: Ending | None = None
        """Why the child was killed, where that was for a fault of its own."""
        self._run = run
        self._child = child
        self._child_name = kind_of(run.lease.kind).child
        self._aborted = threading.Event()
        self._deadline: float | None = None
        self._measured_at = 0.0

    def abort(self) -> None:
        """The supervisor cannot go on: kill the child."""
        self._aborted.set()

    def run(self) -> None:
        """Look at the clock until the child has gone."""
        while not self._child.exited():
            self._look()
            time.sleep(_TICK_S)
        self.status = self._child.end()

    def _look(self) -> None:
        if self._run.heartbeat.lost or self._aborted.is_set():
            self._child.signal(signal.SIGKILL)
            return
        if self.fault is None and (fault := self._fault()) is not None:
            log.error("child_is_ended", code=fault.code, message=fault.message)
            self.fault = fault
            self._child.signal(signal.SIGKILL)
            return
        now, request = time.monotonic(), self._run.request
        if request is not None and request != self.requested:
            self._request(request)
        if self._child.outcome is not None and self._deadline is None:
            self._deadline = now + _EXIT_GRACE_S
        if self._deadline is not None and now > self._deadline:
            over = now - self._deadline > _TERM_GRACE_S
            self._child.signal(signal.SIGKILL if over else signal.SIGTERM)

    def _fault(self) -> Ending | None:
        """Return what the child does that it must not: stand still, or hold more memory than it may."""
        settings = self._run.tools.settings
        if self._child.outcome is None and self._run.heartbeat.stalled_s > settings.stall_s:
            return Ending("stalled", f"The {self._child_name} got no further for {settings.stall_s:.0f} seconds.")
        now, limit = time.monotonic(), settings.trainer_memory_bytes
        if limit is None or now - self._measured_at < _MEASURE_S:
            return None
        self._measured_at = now
        held = resident_bytes(self._child.pid)
        if held <= limit:
            return None
        return Ending("out_of_memory", f"The {self._child_name} held {held:,} bytes of memory; it may hold {limit:,}.")

    def _request(self, request: Request) -> None:
        self._child.send(Command(type="pause" if request == Request.PAUSE else "stop"))
        self.requested = request
        if self._deadline is None:
            self._deadline = time.monotonic() + self._run.tools.settings.stop_grace_s
