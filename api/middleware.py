"""Around every request: its id, one log line, the host it was sent to, the size of its body. Plain ASGI."""

from __future__ import annotations

import re
import time
from asyncio import CancelledError
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.addresses import host_of
from api.error_handlers import answer, unforeseen
from api.errors import MalformedError
from api.ids import new_id
from api.metrics import HTTP_SECONDS

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_STREAMED = re.compile(r"/v1/(files|uploads/[^/]+/parts|objects/.+)")
_NOT_ALLOWED = (
    "This service does not answer for the host {host!r}. Its operator names the hosts that it has: DIFFTUNE_PUBLIC_URL "
    "is its address as clients see it, DIFFTUNE_ALLOWED_HOSTS lists further host names."
)
_MAX_JSON_BYTES = 1 << 20
log = structlog.get_logger(__name__)


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
    """Bodies that are held in memory have at most 1 MiB; those that are streamed have limits of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _STREAMED.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > _MAX_JSON_BYTES:
                raise HTTPException(413, f"The body is larger than {_MAX_JSON_BYTES} bytes.")
            return message

        await self.app(scope, counted, send)
