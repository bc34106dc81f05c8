"""Methods that no endpoint names: HEAD wherever there is GET, OPTIONS everywhere, and which ones a path has."""

from __future__ import annotations

import anyio
from fastapi import Request
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """Answers HEAD as GET, without the body: what makes the body is stopped before it makes more than a piece."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        with anyio.CancelScope() as answering:

            async def send_no_body(message: Message) -> None:
                if message["type"] != "http.response.body":
                    await send(message)
                    return
                if answering.cancel_called:
                    return
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                if message.get("more_body"):
                    answering.cancel()

            await self.app(asked, receive, send_no_body)
        if "route" in asked:
            scope["route"] = asked["route"]  # for the log and the metrics of requests


def allowed_methods(request: Request) -> list[str]:
    """The methods that the path of a request takes, whatever its own is."""
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path_regex.match(request.scope["path"]):
            found |= route.methods or set()
    return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))
