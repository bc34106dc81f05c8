"""Errors as pages, for browsers: whatever answers them, a person who follows a link reads no JSON."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.web.rendering import page, root_of
from api.web.sessions import COOKIE
from api.web.signing import signer

_PROBLEM = "application/problem+json"
_QUALITY = re.compile(r";\s*q=([01](\.[0-9]{0,3})?)\s*(;|$)")
_UNKNOWN = "There is no page at this address."


class PagesForBrowsers:
    """Shows problems as pages where the request prefers HTML and brings no key of its own. Plain ASGI, outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "HEAD" or not _is_browser(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        held: Message | None = None
        body = bytearray()

        async def send_shown(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_problem(message):
                held = message
            elif held is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await _show(scope, receive, send, held, bytes(body))

        await self.app(scope, receive, send_shown)


def _is_problem(message: Message) -> bool:
    return Headers(raw=message["headers"]).get("content-type") == _PROBLEM


def _is_browser(headers: Headers) -> bool:
    """Whether HTML is named, and nothing that is JSON as much; who brings a key is a program."""
    accepted: dict[str, float] = {}
    for part in headers.get("accept", "").lower().split(","):
        quality = _QUALITY.search(part)
        accepted[part.partition(";")[0].strip()] = float(quality[1]) if quality else 1.0
    json_at_most = max(accepted.get(kind, 0.0) for kind in ("application/json", _PROBLEM))
    return "authorization" not in headers and accepted.get("text/html", 0.0) > json_at_most


async def _show(scope: Scope, receive: Receive, send: Send, held: Message, body: bytes) -> None:
    request = Request(scope)
    if not hasattr(request.state, "web_session") and (cookie := request.cookies.get(COOKIE)):
        request.state.web_session = signer(request).read(cookie)  # for the way on; nothing is shown of it
    problem: dict[str, Any] = json.loads(body)
    message = _UNKNOWN if problem.get("code") == "route_not_found" else str(problem.get("detail", ""))
    status = HTTPStatus(held["status"])
    shown = page(request, "error.html.j2", status=status, message=message, back=root_of(request))
    for name, value in Headers(raw=held["headers"]).items():
        if name not in {"content-type", "content-length"}:
            shown.headers.setdefault(name, value)
    MutableHeaders(raw=shown.raw_headers).add_vary_header("accept")
    await shown(scope, receive, send)
