"""A faulty road to a store: a proxy on loopback that passes bytes on, or does to them what a test wants."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

_REFUSAL = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_BUFFER = 1 << 16


class FaultyProxy:
    """Passes on until told otherwise. `fail_next(n)` answers the next n requests with 503, `cut_next(n, after)` breaks
    the next n answers off after so many bytes, `delay(s)` waits before each answer, `vanish()` closes every connection.

    Each of these applies to new connections, and ends those that clients keep open.
    """

    def __init__(self, port: int) -> None:
        """`port`: where the store listens."""
        self._delay_s = 0.0
        self._gone = False
        self._open: set[socket.socket] = set()
        self.refused: list[float] = []
        """When a request was answered with 503."""
        self._target = port
        self._failures = self._cuts = self._cut_after = 0
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def fail_next(self, count: int) -> None:
        self._failures = count
        self._end_all()

    def cut_next(self, count: int, after: int) -> None:
        self._cuts, self._cut_after = count, after
        self._end_all()

    def delay(self, seconds: float) -> None:
        self._delay_s = seconds
        self._end_all()

    def vanish(self, *, gone: bool = True) -> None:
        self._gone = gone
        self._end_all()

    def _end_all(self) -> None:
        for client in list(self._open):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)  # until clients can see it

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self._gone:
                return
            if self._take("_failures"):
                self._refuse(client)
                return
            self._open.add(client)
            with socket.create_connection(("127.0.0.1", self._target)) as store:
                threading.Thread(target=self._copy, args=(client, store, None), daemon=True).start()
                time.sleep(self._delay_s)
                self._copy(store, client, self._cut_after if self._take("_cuts") else None)
        self._open.discard(client)

    def _take(self, name: str) -> bool:
        with self._lock:
            left: int = getattr(self, name)
            setattr(self, name, max(0, left - 1))
            return left > 0

    def _copy(self, source: socket.socket, target: socket.socket, at_most: int | None) -> None:
        with suppress(OSError):
            left = at_most
            while (left is None or left > 0) and (data := source.recv(_BUFFER)):
                target.sendall(data if left is None else data[:left])
                left = None if left is None else left - len(data)
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)

    def _refuse(self, client: socket.socket) -> None:
        """Read the request to its end: an answer to one that is still being sent would be lost."""
        self.refused.append(time.monotonic())
        head = b""
        while b"\r\n\r\n" not in head and (data := client.recv(_BUFFER)):
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if lines.get(b"expect") != b"100-continue":
            left = int(lines.get(b"content-length", b"0")) - len(body)
            while left > 0 and (data := client.recv(_BUFFER)):
                left -= len(data)
        answer = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: "
        client.sendall(answer + f"{len(_REFUSAL)}\r\n\r\n".encode() + (b"" if head[:4] == b"HEAD" else _REFUSAL))
