"""Requests that delete or end something, which a full disk must not keep from it. Plain ASGI."""

from __future__ import annotations

from contextlib import suppress

from starlette.types import ASGIApp, Receive, Scope, Send

from api.room import Reserve

_ENDINGS = ("/cancel", "/pause")


class MakesRoom:
    """Middleware that lets a piece of the reserve go before a request that deletes or ends, where the disk is full."""

    def __init__(self, app: ASGIApp, reserve: Reserve) -> None:
        self.app = app
        self.reserve = reserve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["method"] == "DELETE" or scope["path"].endswith(_ENDINGS)):
            with suppress(OSError):
                self.reserve.release_if_short()
        await self.app(scope, receive, send)
