from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import api
from api import otlp
from api.tracing import context_of, current_traceparent, tracing_wanted

BUSY = """
import time
from api.tracing import configure_tracing, flush_tracing, span
configure_tracing("busy")
began = time.monotonic()
for _ in range(5000):
    with span("more than the queue holds"):
        pass
worked = time.monotonic()
flush_tracing()
print(worked - began, time.monotonic() - worked)
"""


def test_a_collector_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        command, folder = [sys.executable, "-c", BUSY], Path(api.__file__).parents[1]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        silent.settimeout(0)
        silent.accept()[0].close()  # it was tried
    work_s, flush_s = map(float, done.stdout.split())
    assert work_s < 10
    assert 1 < flush_s < 8, "2 s, on a machine that is not busy"


def test_without_a_span_there_is_no_traceparent_and_nonsense_is_none() -> None:
    assert current_traceparent() is None
    assert context_of(None) == context_of("nonsense") == {}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_traces_are_off_unless_the_operator_asks(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, wanted: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tracing_wanted.cache_clear()
    try:
        assert tracing_wanted() is wanted
    finally:
        tracing_wanted.cache_clear()


@pytest.mark.parametrize("name", [None, "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"])
def test_a_collector_has_three_seconds_unless_the_operator_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    given = []
    monkeypatch.setattr(otlp, "OTLPSpanExporter", lambda timeout: given.append(timeout))
    monkeypatch.setattr(otlp, "BatchSpanProcessor", lambda exporter: exporter)
    if name is not None:
        monkeypatch.setenv(name, "7")
    otlp._processor.__wrapped__()
    assert given == [3.0 if name is None else None], "the exporter reads the operator's itself"
