"""An application behind uvicorn as `python -m api` runs it, in a thread, and clients that speak bytes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from api.protocol import BoundedHttp


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """The port that it answers on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, http=BoundedHttp, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def connected(port: int, *pieces: bytes) -> Iterator[socket.socket]:
    """A connection on which these bytes were sent; what the server no longer takes is not sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass
        yield connection


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the answer on it."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += _some(connection)
    assert len(body) == int(headers["content-length"]), "one answer to one request"
    return int(first.split()[1]), headers, json.loads(body)


def ended(connection: socket.socket) -> bool:
    """Whether the server closes it, which is waited for."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def _some(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    assert piece, "the connection was closed before its answer"
    return piece
