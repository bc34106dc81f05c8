"""HTTP/1.1 as uvicorn speaks it, with bounds: of a request's head in bytes and seconds, and of a body nobody waits for.

uvicorn with httptools has none: one line or header of many megabytes blocks the event loop for everybody. What it
cannot parse it answers in plain text, or not at all; here everything refused gets a problem as its answer.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.error_handlers import problem
from api.errors import ServiceError
from api.ids import new_id

MAX_HEAD_BYTES = 64 * 1024
HEAD_S = 15.0  # from its first byte, or the connection, to its last
LINGER_S = 3.0  # that a client has to read its answer while it still sends
UNREADABLE = "unreadable_body"
"""Name of the reason, in the state of a request whose body cannot be parsed."""
_TOO_LONG = {
    HTTPStatus.REQUEST_URI_TOO_LONG: ("uri_too_long", f"The address has more than {MAX_HEAD_BYTES} bytes."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        "headers_too_large",
        f"The headers have more than {MAX_HEAD_BYTES} bytes.",
    ),
}


class BoundedHttp(HttpToolsProtocol):
    """One connection. Heads have at most 64 KiB (414, 431) and arrive in time (408)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Make the connection as uvicorn's protocol is made."""
        super().__init__(*args, **options)
        self.ws_protocol_class = None  # uvicorn's answer to a WebSocket's handshake would be plain text
        self.url = b""
        self._undigested = 0  # bytes since the last that belonged to a whole head or to a body
        self._head_bytes = 0
        self._in_message = False
        self._awaits_head = True
        self._is_refused = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # so in uvicorn
        """Wait for a head, not for ever."""
        super().connection_made(transport)
        self._end_in(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end_in(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is too long."""
        if self._is_refused:
            return
        if self._deadline is None and self._awaits_head and self._is_idle:
            self._end_in(HEAD_S)
        self._undigested += len(data)
        super().data_received(data)
        if self._undigested > MAX_HEAD_BYTES and not self._is_refused:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_message = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the address."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        self._head_bytes += len(name) + len(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start on the request, whose head is whole.

        Raises:
            ValueError: it is too long, or asks for a tunnel; the parser ends with this, and uvicorn refuses.
        """
        if self._head_bytes > MAX_HEAD_BYTES or self.parser.get_method() == b"CONNECT":
            raise ValueError
        super().on_headers_complete()
        self.cycle.keep_alive &= not self.parser.should_upgrade()  # the parser drops what comes after such a head
        self._undigested = 0
        self._awaits_head = False
        self._end_in(None)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._undigested = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that all of the request is here."""
        self._in_message = False
        self._awaits_head = True
        self._undigested = 0
        self._end_in(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; and a while for the rest of this one, which its answer did not need."""
        super().on_response_complete()
        if self._is_refused and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        elif self._in_message and not self.pipeline and not self.transport.is_closing():
            self._end_in(HEAD_S)  # a client that is busy itself would lose its answer with the connection

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, or was found too long while it was."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        elif self._awaits_head and self.parser.get_method() == b"CONNECT":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "This service is no proxy.", "allow: ")
        else:
            what = msg if self._awaits_head else "The body cannot be read: its chunks are not as HTTP/1.1 has them."
            self._refuse(HTTPStatus.BAD_REQUEST, "malformed_request", what)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: what an upgrade asks for may be ignored (RFC 9110, 7.8)."""

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse_head(self) -> None:
        is_url = len(self.url) > MAX_HEAD_BYTES // 2
        status = HTTPStatus.REQUEST_URI_TOO_LONG if is_url else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refuse(status, *_TOO_LONG[status])

    def _end_in(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        """A head did not come in time, or the rest of a body that nobody needs."""
        if self._undigested and self._awaits_head and self._is_idle and not self._is_refused:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "The request did not arrive in time.")
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, code: str, message: str, *headers: str) -> None:
        """Answer, and read on for a moment: a connection closed at once would take the answer back."""
        self._is_refused = True
        request_id = new_id("req")
        body = json.dumps(problem(status, ServiceError(code, message), request_id=request_id, path="")).encode()
        head = [
            f"HTTP/1.1 {int(status)} {status.phrase}",
            "content-type: application/problem+json",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            "connection: close",
            *headers,
        ]
        self.flow.resume_reading()
        if not self._awaits_head:  # the application answers, which may wait for what does not come
            self.scope["state"][UNREADABLE] = message
            self.cycle.message_event.set()
        elif self._is_idle:  # else an earlier answer is under way, and is the last
            self.transport.write("\r\n".join([*head, "", ""]).encode("ascii") + body)
            if self.transport.can_write_eof():
                self.transport.write_eof()
        self._end_in(LINGER_S)
