"""Structured logs: one line an event, with what is bound to the request or the run."""

from __future__ import annotations

import io
import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from api.tracing import add_trace_id


def configure_logging(*, as_json: bool | None = None, stream: TextIO = sys.stderr) -> None:
    """Configure the process's logging; call this once at its start. JSON lines unless the stream is a terminal.

    Tracebacks come without local variables: those may hold keys.
    """
    for_machines = not stream.isatty() if as_json is None else as_json
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    rendered: list[structlog.types.Processor] = [plain]
    if for_machines:
        rendered = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_trace_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lenient(stream))),
        cache_logger_on_first_use=False,
    )


class _Lenient(io.TextIOBase):
    """A stream that loses what it cannot write: a disk that is full of logs must fail no request and no run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()
