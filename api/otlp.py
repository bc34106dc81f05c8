"""The export of spans, in batches, by a thread of its own, to the operator's collector. Loads OpenTelemetry's SDK."""

from __future__ import annotations

import os
from functools import cache

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator

from api import __version__

_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_TIMEOUT_S = 3.0
_UNNAMED = "unknown_service"  # as the SDK begins the name of a service that nobody has named


def provider(service: str, ids: IdGenerator | None = None) -> TracerProvider:
    """Gives the tracers of a service. `OTEL_SERVICE_NAME` goes before its name, `OTEL_TRACES_SAMPLER` is heeded.

    All providers of a process share one queue and its thread. A full queue drops spans and never waits.
    """
    resource = Resource.create({SERVICE_VERSION: __version__})
    if str(resource.attributes[SERVICE_NAME]).startswith(_UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    made = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)  # it would wait for a dead end
    made.add_span_processor(_processor())
    return made


@cache
def _processor() -> SpanProcessor:
    stated = any(os.environ.get(name) for name in _TIMEOUTS)
    return BatchSpanProcessor(OTLPSpanExporter(timeout=None if stated else _TIMEOUT_S))
