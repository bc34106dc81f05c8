"""OpenTelemetry traces of a process, on where the operator has set the standard variables for them.

Everything but `configure_tracing` uses OpenTelemetry's API alone, which does nothing until a provider is set. A work
item keeps the `traceparent` of who asked for it in its row, so that neither a lost message nor a worker that polls cuts
a trace.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from structlog.typing import EventDict, WrappedLogger

TRACEPARENT_LENGTH = 55
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_FLUSH_S = 2.0
_propagator = TraceContextTextMapPropagator()
log = structlog.get_logger(__name__)


def configure_tracing(service: str) -> None:
    """Export the process's spans as `service`, where the environment asks for it; call this once at its start."""
    if tracing_wanted():
        from api.otlp import provider  # loads the SDK and an HTTP client

        trace.set_tracer_provider(provider(service))


@cache
def tracing_wanted() -> bool:
    """Return whether the operator has asked for traces; what cannot be done is logged once, and ends nothing."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter == "none" or not (exporter or _first(_ENDPOINTS)):
        return False
    protocol = _first(_PROTOCOLS) or "http/protobuf"
    if (exporter or "otlp", protocol) != ("otlp", "http/protobuf"):
        message = "There is OTEL_TRACES_EXPORTER=otlp with OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, and none."
        log.error("traces_cannot_be_exported", exporter=exporter, protocol=protocol, message=message)
        return False
    return True


def flush_tracing() -> None:
    """Send what is left at the end of a process, unless that takes longer than a moment."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        thread = threading.Thread(target=flush, name="last spans", daemon=True)
        thread.start()
        thread.join(_FLUSH_S)


@contextmanager
def span(
    name: str,
    *,
    context: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes = None,
    start_ns: int | None = None,
    orderly: type[Exception] | tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """A span around the block, in `context` or else beneath the current one.

    Of an error that leaves the block it tells the type alone (the text may hold names of files), of an `orderly` one
    nothing.
    """
    with trace.get_tracer("difftune").start_as_current_span(
        name, context, kind, attributes, start_time=start_ns, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except orderly:
            raise
        except Exception as error:
            fail(current, type(error).__qualname__)
            raise


def fail(failed: Span, error_type: str) -> None:
    """Mark a span as failed."""
    failed.set_attribute("error.type", error_type)
    failed.set_status(StatusCode.ERROR)


def current_traceparent() -> str | None:
    """The current span as a W3C `traceparent`; None where there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")


def context_of(traceparent: str | None) -> Context:
    """The context in which the span of a `traceparent` is the current one; without it, that of a new trace."""
    return _propagator.extract({"traceparent": traceparent or ""})


def add_trace_id(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Add to a log line the trace that it belongs to, where there is one."""
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        line["trace_id"] = trace.format_trace_id(current.trace_id)
    return line


def _first(names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")
