"""`python -m api` serves the API at the settings' host and port.

`--fd N`: on a socket that somebody else has bound. A stack keeps that socket open over a restart of the API, so that
clients wait instead of being refused.
"""

from __future__ import annotations

import argparse
import gc
import socket
import sys
from collections.abc import Callable
from typing import Any

import structlog
import uvicorn
from pydantic import ValidationError

from api.addresses import is_everywhere
from api.db import Database
from api.logging import configure_logging
from api.metrics import WorkInDatabase, serve_metrics
from api.protocol import BoundedHttp
from api.settings import Settings, faults_of
from api.tracing import configure_tracing

_OPEN_STREAMS_S = 3
_KEEP_ALIVE_S = 15  # longer than clients keep connections (httpx, 5 s): theirs must not be closed as they send
_SWITCH_S = 0.001  # the event loop waits so long for each thread that works, whenever it has something to do
log = structlog.get_logger(__name__)


def main() -> None:
    """Serve until SIGTERM or SIGINT; event streams are cut after a moment."""
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--fd", type=int, help="descriptor of a bound socket, instead of host and port")
    descriptor = parser.parse_args().fd
    sys.setswitchinterval(_SWITCH_S)
    configure_logging()
    configure_tracing("difftune-api")
    settings = _settings()
    serve_metrics(settings, WorkInDatabase(Database(settings.database)))
    config = uvicorn.Config(
        _made,
        factory=True,
        http=BoundedHttp,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_OPEN_STREAMS_S,
    )
    uvicorn.Server(config).run(sockets=None if descriptor is None else [socket.socket(fileno=descriptor)])


def _made() -> Callable[..., Any]:
    """The application. What its modules leave stays: no garbage is looked for in it, neither meanwhile nor later."""
    gc.disable()
    from api.app import create_app

    app = create_app()
    gc.freeze()
    gc.enable()
    return app


def _settings() -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(f"difftune: {faults_of(error)}")
    if is_everywhere(settings.host) and settings.public_url is None:
        advice = "Set DIFFTUNE_PUBLIC_URL to the address that clients on other machines use; they are refused now."
        log.warning("links_lead_to_this_machine", base_url=settings.base_url, advice=advice)
    return settings


if __name__ == "__main__":
    main()
