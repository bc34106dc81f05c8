"""A collector of traces: a real HTTP server that reads OTLP's protobuf, as a collector of OpenTelemetry does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_ERROR = 2


@dataclass(frozen=True)
class Received:
    """A span; ids in hex, `parent_id` empty for a root."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    start_ns: int
    end_ns: int


class Collector:
    """Used as a context; it listens on a free loopback port."""

    def __init__(self) -> None:
        self.raw = b""
        """All that has come, as it was sent."""
        self.spans: list[Received] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                known = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                if known:
                    collector.receive(body)
                self.send_response(200 if known else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="collector", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def receive(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.raw += body
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            self.spans += [_read(service, span) for scope in resource.scope_spans for span in scope.spans]

    def named(self, name: str, trace_id: str | None = None) -> list[Received]:
        """Spans of that name, in the order of their beginnings."""
        found = [span for span in self.spans if span.name == name and trace_id in {None, span.trace_id}]
        return sorted(found, key=lambda span: span.start_ns)

    def wait(self, until: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Until what is expected has come."""
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, f"came: {[(s.service, s.name) for s in self.spans]}"
            time.sleep(0.05)


def _read(service: str, span: Any) -> Received:
    return Received(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _values(span.attributes),
        span.status.code == _ERROR,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in attributes}
