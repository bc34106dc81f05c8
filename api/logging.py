"""Structured logs: one line an event, with what is bound to the request or the run."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def configure_logging(*, as_json: bool | None = None, stream: TextIO = sys.stderr) -> None:
    """Once at start of a process. JSON lines unless the stream is a terminal."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if _json(as_json, stream) else _keep,
            structlog.processors.JSONRenderer() if _json(as_json, stream) else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def _json(as_json: bool | None, stream: TextIO) -> bool:
    return not stream.isatty() if as_json is None else as_json


def _keep(
    _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    return event
