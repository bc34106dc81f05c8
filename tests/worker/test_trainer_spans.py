"""What a trainer reports of its spans is what the collector gets."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags

from difftune_core.hooks import SpanEvent
from worker import trainer_spans

TRACE, ATTEMPT, SPAN, PARENT = 0xAF, 0xA0, 0xB1, 0xC2


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider(id_generator=trainer_spans._GivenIds())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trainer_spans, "_tracer", lambda: provider.get_tracer("test"))
    return exporter


def hand_on(*, sampled: bool = True, error: str | None = None) -> None:
    event = SpanEvent(
        trace_id=f"{TRACE:032x}",
        span_id=f"{SPAN:016x}",
        parent_id=f"{PARENT:016x}",
        name="training",
        start_ns=1_000,
        end_ns=3_000,
        attributes={"difftune.progress.done": 7},
        error=error,
    )
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    trainer_spans.export(event, SpanContext(TRACE, ATTEMPT, is_remote=True, trace_flags=flags))


def test_a_span_keeps_its_name_times_ids_and_attributes(exported: InMemorySpanExporter) -> None:
    hand_on()
    (span,) = exported.get_finished_spans()
    assert (span.name, span.start_time, span.end_time) == ("training", 1_000, 3_000)
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id) == (TRACE, SPAN)
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id, span.parent.is_remote) == (TRACE, PARENT, True)
    assert dict(span.attributes or {}) == {"difftune.progress.done": 7}
    assert span.status.status_code == StatusCode.UNSET


def test_a_span_that_failed_says_by_which_error(exported: InMemorySpanExporter) -> None:
    hand_on(error="diverged")
    (span,) = exported.get_finished_spans()
    assert span.status.status_code == StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "diverged"


def test_whether_a_trace_is_sampled_is_the_attempt_s_decision(exported: InMemorySpanExporter) -> None:
    hand_on(sampled=False)
    assert exported.get_finished_spans() == ()
