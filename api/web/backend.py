"""What a page asks: requests to the REST API in this process, in the name of the session's key.

A page has no business logic of its own, and sees what the API lets its tenant see.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import anyio
from fastapi import Request, Response
from starlette.types import Message, Receive, Scope, Send

from api.web.sessions import WebSession

_OF_THE_PAGE = {"route", "endpoint", "path_params", "router"}
_KEPT = {b"host", b"user-agent"}
Query = dict[str, Any]


class RefusedError(Exception):
    """The API refused; `problem` is its answer."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        """`status` is HTTP's."""
        self.status = status
        self.problem = problem
        super().__init__(str(problem.get("detail", "")) or f"The service answered {status}.")


@dataclass
class _Answer:
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")

    def read(self) -> Any:
        """The body, read as JSON. Raises RefusedError."""
        self.read_error()
        return json.loads(bytes(self.body)) if self.body else None

    def read_error(self) -> None:
        """Raise RefusedError where the answer is an error."""
        if self.status >= 400:  # noqa: PLR2004  HTTP's errors
            raise RefusedError(self.status, json.loads(bytes(self.body)))


class Backend:
    """The REST API, as a session's key may use it."""

    def __init__(self, request: Request, session: WebSession) -> None:
        self._request = request
        self._session = session

    async def get(self, *path: str, **query: Any) -> Any:
        """The answer to a GET of a path below `/v1`, given in parts. Raises RefusedError."""
        return await self._ask("GET", path, query)

    async def post(self, *path: str, body: Any = None, once: str | None = None, **query: Any) -> Any:
        """The answer to a POST; with the same `once` it takes effect once. Raises RefusedError."""
        return await self._ask("POST", path, query, body=body, once=once)

    async def delete(self, *path: str) -> Any:
        """The answer to a DELETE. Raises RefusedError."""
        return await self._ask("DELETE", path, {})

    async def text(self, *path: str, **query: Any) -> str:
        """The answer to a GET as plain text. Raises RefusedError."""
        answer = await self._answer("GET", path, query, accept=b"text/plain")
        answer.read_error()
        return answer.body.decode("utf-8", "replace")

    def forwarded(self, method: str, *path: str, headers: Iterable[bytes] = (), **query: Any) -> Response:
        """A response that is the API's own: a redirect, a stream; it reads this request's body and its `headers`."""
        kept = [pair for pair in self._request.scope["headers"] if pair[0] in headers]
        return _Forwarded(self._request, self._scope(method, path, query, kept))

    async def send(self, *path: str, headers: Iterable[bytes]) -> Any:
        """The answer to a POST of this request's own body, which streams through. Raises RefusedError."""
        kept = [pair for pair in self._request.scope["headers"] if pair[0] in headers]
        answer = _Answer()
        await self._request.app.router(self._scope("POST", path, {}, kept), self._request.receive, answer.take)
        return answer.read()

    async def _ask(
        self, method: str, path: tuple[str, ...], query: Query, *, body: Any = None, once: str | None = None
    ) -> Any:
        answer = await self._answer(method, path, query, body=body, once=once)
        return answer.read()

    async def _answer(
        self,
        method: str,
        path: tuple[str, ...],
        query: Query,
        *,
        body: Any = None,
        once: str | None = None,
        accept: bytes = b"application/json",
    ) -> _Answer:
        sent = b"" if body is None else json.dumps(body).encode()
        headers = [(b"accept", accept)]
        if body is not None:
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(sent)).encode())]
        if once:
            headers.append((b"idempotency-key", once.encode()))
        answer = _Answer()
        scope = self._scope(method, path, query, headers)
        await self._request.app.router(scope, _receiving(sent), answer.take)
        return answer

    def _scope(self, method: str, path: tuple[str, ...], query: Query, headers: Iterable[tuple[bytes, bytes]]) -> Scope:
        """A request below this one's middleware, which has seen it already."""
        if any("/" in part or not part for part in path):
            raise RefusedError(404, {"code": "not_found", "detail": "There is no such thing."})
        outer = self._request.scope
        raw = "/v1/" + "/".join(quote(part, safe="") for part in path)
        given = {name: value for name, value in query.items() if value is not None}
        own = {
            "method": method,
            "path": "/v1/" + "/".join(path),
            "raw_path": raw.encode(),
            "query_string": urlencode(given, doseq=True).encode(),
            "headers": [*(pair for pair in outer["headers"] if pair[0] in _KEPT), *headers],
            "state": {"request_id": outer["state"].get("request_id"), "session_key": self._session.key_id},
        }
        return {name: value for name, value in outer.items() if name not in _OF_THE_PAGE} | own


class _Forwarded(Response):
    def __init__(self, request: Request, scope: Scope) -> None:
        super().__init__()
        self._app, self._scope = request.app.router, scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await self._app(self._scope, receive, send)


def _receiving(body: bytes) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await anyio.sleep_forever()
        raise AssertionError("never")

    return receive
