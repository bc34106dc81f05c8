"""Spans of a run, for a trace that began elsewhere: `TRACEPARENT` names its parent (W3C Trace Context).

Without OpenTelemetry: a span is one more event, which the supervisor exports. So a run needs no network and no key for
it, a collector that is away costs it nothing, and of a run that is killed only the spans that had not ended are lost.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from difftune_core.hooks import Event, Hooks, OutcomeEvent, PhaseEvent, ProgressEvent, SpanEvent, StopKind

TRACEPARENT = "TRACEPARENT"
ORDERLY = frozenset({"succeeded", "stopped", "paused"})
_FORM = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f][13579bdf]")  # odd flags: sampled


def traced(hooks: Hooks, command: str, environment: Mapping[str, str]) -> Hooks:
    """Hooks that hear of spans too where the environment names a sampled trace."""
    found = _FORM.fullmatch(environment.get(TRACEPARENT, ""))
    return hooks if found is None else TracedHooks(hooks, command, trace_id=found[1], parent_id=found[2])


@dataclass
class _Open:
    """A span that has not ended."""

    name: str
    parent_id: str
    start_ns: int = field(default_factory=time.time_ns)
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))
    attributes: dict[str, str | int] = field(default_factory=dict)


class TracedHooks:
    """Makes a span of the run and, beneath it, one of each phase; passes everything on."""

    def __init__(self, hooks: Hooks, command: str, *, trace_id: str, parent_id: str) -> None:
        """`command`: of `python -m difftune_core`. The run begins."""
        self._hooks = hooks
        self._trace_id = trace_id
        self._run = _Open(f"trainer {command}", parent_id, attributes={"process.pid": os.getpid()})
        self._phase = self._open("starting")

    def emit(self, event: Event) -> None:
        """Hand an event on; before one that ends a span, that span."""
        if isinstance(event, PhaseEvent) and event.phase != self._phase.name:
            self._end(self._phase)
            self._phase = self._open(event.phase)
        elif isinstance(event, ProgressEvent) and event.phase == self._phase.name:
            self._phase.attributes |= {"difftune.progress.done": event.done, "difftune.progress.total": event.total}
        elif isinstance(event, OutcomeEvent):
            error = None if event.code in ORDERLY else event.code
            self._end(self._phase, error)
            self._end(self._run, error)
        self._hooks.emit(event)

    def stop_requested(self) -> StopKind | None:
        """Ask the hooks."""
        return self._hooks.stop_requested()

    def release(self, checkpoint: Path) -> bool:
        """Ask the hooks."""
        return self._hooks.release(checkpoint)

    def _open(self, name: str) -> _Open:
        return _Open(name, self._run.span_id)

    def _end(self, ended: _Open, error: str | None = None) -> None:
        self._hooks.emit(
            SpanEvent(
                trace_id=self._trace_id,
                span_id=ended.span_id,
                parent_id=ended.parent_id,
                name=ended.name,
                start_ns=ended.start_ns,
                end_ns=time.time_ns(),
                attributes=ended.attributes,
                error=error,
            )
        )
