"""Spans of attempts, and what a trainer reports of its own: what the collector gets."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags

from api.work.endings import Ending
from api.work.repository import Lease
from difftune_core.hooks import SpanEvent
from worker import tracing, trainer_spans
from worker.run import Stopped
from worker.supervise import _ending

TRACE, ATTEMPT, SPAN, PARENT = 0xAF, 0xA0, 0xB1, 0xC2
LEASE = Lease("work_1", 3, "train", "ftjob_1", f"00-{TRACE:032x}-{PARENT:016x}-01")
TOLD = {
    "messaging.system": "difftune",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.destination.name": "work_items",
    "messaging.message.id": "work_1",
    "difftune.work.kind": "train",
    "difftune.subject.id": "ftjob_1",
    "difftune.attempt": 3,
}


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


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Of spans that this process begins."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def test_an_attempt_says_what_it_works_on_and_begins_with_its_claim(finished: InMemorySpanExporter) -> None:
    now_ns = time.time_ns()
    with tracing.attempt_span(LEASE, since=time.monotonic() - 5.0):
        tracing.note_ending("cancelled")
    claim, attempt = finished.get_finished_spans()
    assert (claim.name, attempt.name, attempt.kind) == ("claim", "attempt train", SpanKind.CONSUMER)
    assert dict(attempt.attributes or {}) == {**TOLD, "difftune.outcome": "cancelled"}
    assert attempt.status.status_code == StatusCode.UNSET, "nobody is to be woken by it"
    assert attempt.parent is not None
    assert (attempt.parent.trace_id, attempt.parent.span_id) == (TRACE, PARENT)
    assert claim.parent == attempt.context
    assert claim.start_time == attempt.start_time
    assert attempt.start_time is not None
    assert now_ns - attempt.start_time == pytest.approx(5e9, rel=0.2)


def test_an_attempt_of_a_lost_worker_is_told_of_as_failed(finished: InMemorySpanExporter) -> None:
    with tracing.recovery_span(LEASE):
        pass
    (span,) = finished.get_finished_spans()
    assert (span.name, span.status.status_code) == ("recover train", StatusCode.ERROR)
    assert dict(span.attributes or {}) == {**TOLD, "difftune.outcome": "worker_lost", "error.type": "worker_lost"}


@pytest.mark.parametrize(("error", "status"), [(Stopped(), "UNSET"), (ValueError("x"), "ERROR")])
def test_a_preparation_that_is_asked_to_stop_has_not_failed(
    finished: InMemorySpanExporter, tmp_path: Path, error: Exception, status: str
) -> None:
    lock = os.open(tmp_path, os.O_RDONLY)
    stopped = Ending("paused")
    workspace = SimpleNamespace(lock=lambda: lock)
    run: Any = SimpleNamespace(workspace=workspace, let_go=lambda: None, request=None, stopped=lambda _: stopped)

    def prepare() -> None:
        raise error

    activity: Any = SimpleNamespace(prepare=prepare)
    place: Any = SimpleNamespace()
    ending = _ending(run, activity, place)
    (span,) = finished.get_finished_spans()
    assert (span.name, span.status.status_code.name) == ("prepare", status)
    assert (ending == stopped) is (status == "UNSET")
