"""Traces of attempts, by the worker as a process and a collector that reads what it sends."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import context

from api.tracing import context_of
from api.work.states import Slot
from tests.collector import Collector, Received
from tests.servers import free_port
from worker.service import Worker
from worker.supervise import take

Bench = Any  # the class of conftest.py
TRACE, ASKED = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{ASKED}-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        yield collector


@contextmanager
def asking() -> Iterator[None]:
    """We are a request that is traced."""
    token = context.attach(context_of(TRACEPARENT))
    yield
    context.detach(token)


def children(collector: Collector, parent: Received) -> list[str]:
    return [s.name for s in sorted(collector.spans, key=lambda s: s.start_ns) if s.parent_id == parent.span_id]


@pytest.mark.both_databases
def test_a_retry_is_a_second_attempt_in_the_trace_of_the_submission(bench: Bench, collector: Collector) -> None:
    """The first trainer is killed; no doorbell rings in this test: the worker polls."""
    with asking():
        job_id = bench.job({"steps": 12, "kill_once_at": 7})
    assert bench.item(job_id).traceparent == TRACEPARENT
    alone = bench.job({"steps": 3})
    assert bench.item(alone).traceparent is None
    bench.process()
    assert [bench.wait_final(id_).status for id_ in (job_id, alone)] == ["succeeded", "succeeded"]
    collector.wait(lambda: len(collector.named("attempt train")) == 3)
    first, second = collector.named("attempt train", TRACE)
    assert first.parent_id == second.parent_id == ASKED
    assert (first.service, first.failed, first.attributes["error.type"]) == ("difftune-worker", True, "killed")
    assert (second.failed, second.attributes["difftune.outcome"]) == (False, "succeeded")
    for number, attempt in enumerate((first, second), start=1):
        assert attempt.attributes["difftune.subject.id"] == job_id
        assert attempt.attributes["difftune.attempt"] == number

    assert children(collector, first) == ["claim", "prepare", "settle"], "a killed trainer's own span had not ended"
    assert children(collector, second) == ["claim", "prepare", "trainer train", "settle"]
    (trainer,) = collector.named("trainer train", TRACE)
    assert trainer.service == "difftune-trainer"
    assert children(collector, trainer) == ["starting", "training"]
    started, *_ = collector.named("starting", TRACE)
    assert started.parent_id not in {trainer.span_id, first.span_id}, "what the killed one had ended is kept"
    (other,) = [span for span in collector.named("attempt train") if span.trace_id != TRACE]
    assert (other.attributes["difftune.subject.id"], other.parent_id) == (alone, ""), "a trace of its own"


def test_a_lost_worker_is_seen_by_the_sweep(bench: Bench, collector: Collector) -> None:
    bench.hurry()
    with asking():
        bench.job()
    lost = Worker(bench.settings)
    assert take(lost.tools, Slot.GPU, lost.worker_id) is not None
    lost.tools.database.close()
    bench.process("sweep")
    collector.wait(lambda: bool(collector.named("recover train")), timeout_s=60)
    (recovered,) = collector.named("recover train")
    assert (recovered.service, recovered.trace_id, recovered.parent_id) == ("difftune-sweep", TRACE, ASKED)
    assert recovered.attributes["error.type"] == "worker_lost"


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "accepts and says nothing"])
def test_a_dead_collector_costs_a_job_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, *, silent: bool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        port = listener.getsockname()[1] if silent else free_port()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with asking():
            job_id = bench.job({"steps": 20})
        worker = bench.process()
        assert bench.wait_final(job_id).status == "succeeded"
        assert bench.reasons(job_id) == ["succeeded"]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
