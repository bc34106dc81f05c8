"""The spans of an attempt, in the trace of whoever asked for the work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from api.tracing import context_of, fail, span, tracing_wanted
from api.work.endings import SUCCEEDED
from api.work.repository import Lease
from difftune_core.hooks import SpanEvent
from worker.failures import AT_ONCE

_ORDERLY = {SUCCEEDED, "cancelled", *AT_ONCE}


@contextmanager
def attempt_span(lease: Lease, *, since: float) -> Iterator[None]:
    """The current span of this thread while it works on a claimed item; `since`: monotonic time just before the claim.

    Each attempt is a child of the span that asked for the work, so that retries lie side by side.
    """
    began_ns = time.time_ns() - round(1e9 * (time.monotonic() - since))
    asked, attributes = context_of(lease.traceparent), _attributes(lease)
    with span(f"attempt {lease.kind}", context=asked, kind=SpanKind.CONSUMER, attributes=attributes, start_ns=began_ns):
        with span("claim", start_ns=began_ns):
            pass
        yield


@contextmanager
def recovery_span(lease: Lease) -> Iterator[None]:
    """Open a span around the end of an attempt whose worker fell silent: the worker's own span may be lost."""
    asked, attributes = context_of(lease.traceparent), _attributes(lease)
    with span(f"recover {lease.kind}", context=asked, attributes=attributes):
        note_ending("worker_lost")
        yield


def note_ending(code: str) -> None:
    """Note how the current attempt ended; its message stays in the database: it may name files."""
    current = trace.get_current_span()
    current.set_attribute("difftune.outcome", code)
    if code not in _ORDERLY:
        fail(current, code)


def relay(event: SpanEvent) -> None:
    """Export a span of the current attempt's trainer; one that names another trace is none."""
    attempt = trace.get_current_span().get_span_context()
    if tracing_wanted() and event.trace_id == trace.format_trace_id(attempt.trace_id):
        from worker.trainer_spans import export  # loads the SDK

        export(event, attempt)


def _attributes(lease: Lease) -> dict[str, str | int]:
    """Attributes in OpenTelemetry's words for messages, where it has them."""
    return {
        "messaging.system": "difftune",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "work_items",
        "messaging.message.id": lease.item_id,
        "difftune.work.kind": lease.kind,
        "difftune.subject.id": lease.subject_id,
        "difftune.attempt": lease.fence,
    }
