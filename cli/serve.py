"""The API on a socket that somebody else has bound: `python -m cli.serve DESCRIPTOR`.

The stack keeps the socket open over a restart of the API, so that clients wait instead of being refused.
"""

from __future__ import annotations

import socket
import sys

import uvicorn

from api.logging import configure_logging

_OPEN_STREAMS_S = 3


def main() -> None:
    """Serve until SIGTERM or SIGINT; event streams are cut after a moment."""
    configure_logging()
    config = uvicorn.Config(
        "api.app:create_app",
        factory=True,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_OPEN_STREAMS_S,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
