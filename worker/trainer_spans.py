"""Spans that a trainer has reported, as spans of a service of their own. Loads OpenTelemetry's SDK."""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache

from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, Tracer, set_span_in_context

from api.otlp import provider
from api.tracing import fail
from difftune_core.hooks import SpanEvent

_given: ContextVar[int] = ContextVar("given")


class _GivenIds(IdGenerator):
    """A span keeps the id that its process has given it: its children name it."""

    def generate_span_id(self) -> int:
        return _given.get()

    def generate_trace_id(self) -> int:
        raise AssertionError("a trainer's span has a parent")


def export(event: SpanEvent, attempt: SpanContext) -> None:
    """Hand a span on to the collector, with the attempt's decision whether its trace is sampled."""
    parent = SpanContext(attempt.trace_id, int(event.parent_id, 16), is_remote=True, trace_flags=attempt.trace_flags)
    context = set_span_in_context(NonRecordingSpan(parent))
    token = _given.set(int(event.span_id, 16))
    try:
        ended = _tracer().start_span(event.name, context, attributes=event.attributes, start_time=event.start_ns)
    finally:
        _given.reset(token)
    if event.error is not None:
        fail(ended, event.error)
    ended.end(event.end_ns)


@cache
def _tracer() -> Tracer:
    return provider("difftune-trainer", _GivenIds()).get_tracer("difftune_core")
