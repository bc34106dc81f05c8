"""Processes that stay between requests for images, each with a model in memory; a job ends those that are idle."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from difftune_core.hooks import Command, Event, OutcomeEvent
from worker.child import Child


class WarmChild(Child):
    """`python -m difftune_core serve`: to its supervisor each request looks like a child that ends with its outcome."""

    def ask(self, arguments: list[str]) -> None:
        """Hand the process the next request."""
        self.outcome = None
        self.send(Command(type="work", arguments=arguments))

    def is_alive(self) -> bool:
        """Return whether the process can take a request."""
        return not super().exited()

    def exited(self) -> bool:
        """Return whether the request is over."""
        return self.outcome is not None or super().exited()

    def end(self) -> int:
        """End nothing after a request's outcome; return the exit status of a process that has gone."""
        return 0 if self.outcome is not None and self.is_alive() else super().end()

    def close(self) -> None:
        """Kill the process and wait for it: its memory is free then."""
        super().end()

    def _hear(self, event: Event) -> None:
        super()._hear(event)
        if isinstance(event, OutcomeEvent):
            self.events.put(None)  # no more of this request


class Wanted(NamedTuple):
    """What a process must have to take a request."""

    model: str
    """Identifies the weights that draw."""
    gpu: str | None


class _Idle(NamedTuple):
    child: WarmChild
    since: float


class WarmChildren:
    """A worker's idle processes, one for each model and GPU. Used by the threads of its slots."""

    def __init__(self) -> None:
        """Begin without a process."""
        self._idle: dict[Wanted, _Idle] = {}
        self._lock = threading.Lock()

    def take(self, wanted: Wanted) -> WarmChild | None:
        """A process with this model, which is nobody else's then; idle ones of other models on the GPU end."""
        with self._lock:
            found = self._idle.pop(wanted, None)
            others = [key for key in self._idle if key.gpu == wanted.gpu]
            self._close([self._idle.pop(key) for key in others] if found is None else [])
        if found is not None and found.child.is_alive():
            return found.child
        self._close([found] if found else [])
        return None

    def keep(self, wanted: Wanted, child: WarmChild) -> None:
        """Let a process wait for another request."""
        with self._lock:
            before = self._idle.pop(wanted, None)
            self._idle[wanted] = _Idle(child, time.monotonic())
        self._close([before] if before else [])

    def holds(self, gpu: str | None) -> bool:
        """Return whether an idle process has memory of the GPU."""
        return any(key.gpu == gpu for key in list(self._idle))

    def end(self, older_than_s: float = 0.0) -> None:
        """End the processes that are idle for so long; their memory is free when this returns."""
        latest = time.monotonic() - older_than_s
        with self._lock:
            over = [key for key, idle in self._idle.items() if idle.since <= latest]
            self._close([self._idle.pop(key) for key in over])

    @staticmethod
    def _close(idle: list[_Idle]) -> None:
        for one in idle:
            one.child.close()
