"""Around every request: its id, one log line, a head that says things once, the host it was sent to, the size of its
body. Plain ASGI.
"""

from __future__ import annotations

import re
import time
from asyncio import CancelledError
from http import HTTPStatus

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.addresses import host_of
from api.error_handlers import answer, unforeseen
from api.errors import MalformedError, TooLargeError
from api.ids import new_id
from api.metrics import HTTP_SECONDS
from api.multipart import FORM_REST_BYTES
from api.protocol import UNREADABLE
from api.settings import Settings

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_FILES, _OBJECTS = {"/v1/files", "/datasets/upload", "/images/control"}, "/v1/objects/"
_PART = re.compile(r"(/v1)?/uploads/[^/]+/parts")
_BODILESS = {"GET", "HEAD", "DELETE", "OPTIONS"}
_NOT_ALLOWED = (
    "This service does not answer for the host {host!r}. Its operator names the hosts that it has: DIFFTUNE_PUBLIC_URL "
    "is its address as clients see it, DIFFTUNE_ALLOWED_HOSTS lists further host names."
)
_MAX_JSON_BYTES = 1 << 20
_ONCE = ("host", "authorization", "idempotency-key", "content-type", "range", "last-event-id", "x-request-id")
_NO_WEBSOCKETS = "This service speaks no WebSocket. Events of a job are streamed as text/event-stream."
log = structlog.get_logger(__name__)


def takes_much(path: str) -> bool:
    """Return whether bodies sent to a path may be larger than what is held in memory."""
    return path in _FILES or _PART.fullmatch(path) is not None or path.startswith(_OBJECTS)


class RequestContext:
    """Gives every reply an `x-request-id` and answers what nobody foresaw."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        status, started = 0, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers.setdefault("x-content-type-options", "nosniff")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            except CancelledError:  # the process ends and waits no longer
                if status:
                    raise
                await unforeseen(Request(scope), stopping=True)(scope, receive, send_with_id)
            except Exception:
                log.exception("request_failed", method=scope["method"], path=scope["path"])
                if status:
                    raise
                await unforeseen(Request(scope))(scope, receive, send_with_id)
            elapsed_s = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")
            HTTP_SECONDS.labels(scope["method"], route, status).observe(elapsed_s)
            log.info(
                "request", method=scope["method"], path=scope["path"], status=status, ms=round(1000 * elapsed_s, 1)
            )


class PlainHeads:
    """Refuses a request that says twice what is read once, where programs differ in which of the two counts; and a
    WebSocket's handshake.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := _fault_of(Headers(scope=scope))):
            await answer(Request(scope), HTTPStatus.BAD_REQUEST, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _fault_of(headers: Headers) -> MalformedError | None:
    names = headers.keys()  # each as often as it is there
    for name in _ONCE:
        if names.count(name) > 1:
            return MalformedError(
                "repeated_header", f"The header {name!r} is there {names.count(name)} times.", param=name
            )
    if headers.get("upgrade", "").lower() == "websocket":
        return MalformedError("upgrade_not_supported", _NO_WEBSOCKETS, param="upgrade")
    return None


class KnownHosts:
    """Refuses requests for other hosts: a foreign page must not reach us by rebinding its name to our address."""

    def __init__(self, app: ASGIApp, hosts: list[str]) -> None:
        self.app = app
        self.hosts = {host_of(host) for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "*" not in self.hosts:
            host = host_of(Headers(scope=scope).get("host", ""))
            if host not in self.hosts:
                error = MalformedError("host_not_allowed", _NOT_ALLOWED.format(host=host))
                await answer(Request(scope), HTTPStatus.BAD_REQUEST, error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Bodies are no larger than their route can take, and arrive in time.

    One that is announced as too large is refused before any of it is read. What is held in memory has at most 1 MiB.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _BODILESS:
            await self.app(scope, receive, send)
            return
        body = _Body(scope, receive, self._max_bytes(scope["path"]), self._settings)
        if body.max_bytes is not None and _announced(scope) > body.max_bytes:
            error = TooLargeError("too_large", body.too_large, max_bytes=body.max_bytes)
            await answer(Request(scope), HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error)(scope, receive, send)
            return
        await self.app(scope, body.receive, send)

    def _max_bytes(self, path: str) -> int | None:
        if _PART.fullmatch(path):
            return self._settings.max_part_bytes + FORM_REST_BYTES
        if path in _FILES:
            return self._settings.max_file_bytes + FORM_REST_BYTES
        return None if path.startswith(_OBJECTS) else _MAX_JSON_BYTES  # a link says how large its object is


class _Body:
    """One body as it arrives. Time counts only while it is waited for: it is not the client's when we are slow."""

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int | None, settings: Settings) -> None:
        self.max_bytes = max_bytes
        self._state = scope.setdefault("state", {})
        self.too_large = f"The body is larger than {max_bytes} bytes."
        self._receive = receive
        self._idle_s = self._credit_s = settings.body_idle_s
        self._bytes_per_s = settings.body_bytes_per_s
        self._count = 0
        self._is_whole = False

    async def receive(self) -> Message:
        """The next piece.

        Raises:
            HTTPException: 400, it cannot be parsed; 413, there is more than the limit; 408, nothing came for too long,
                or hardly anything.
        """
        if self._is_whole:  # who asks now waits for the client to go away
            return await self._receive()
        began = time.monotonic()
        with anyio.move_on_after(self._credit_s) as waiting:
            message = await self._receive()
        if waiting.cancelled_caught:
            raise HTTPException(408, "The body did not arrive, or arrived too slowly.")
        if UNREADABLE in self._state:
            raise HTTPException(400, self._state[UNREADABLE])
        num_bytes = len(message.get("body", b""))
        gained_s = num_bytes / self._bytes_per_s - (time.monotonic() - began)
        self._credit_s = min(self._idle_s, self._credit_s + gained_s)
        self._count += num_bytes
        if self.max_bytes is not None and self._count > self.max_bytes:
            raise HTTPException(413, self.too_large)
        self._is_whole = not message.get("more_body", False)
        return message


def _announced(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isdecimal() else 0
