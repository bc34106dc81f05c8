"""Routes of our endpoints: the key is asked for before the body, and a plain function is one unit of work in a thread.

FastAPI would open and commit a session in two further threads (`Depends` with `yield`), and read the body before it
looks at the key.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Annotated, Any, cast

from fastapi import Depends, Request, Response, params
from fastapi.responses import StreamingResponse
from sse_starlette import EventSourceResponse

from api.deps import Unit, authenticate, reading, still_authenticated, working, writing
from api.keys.streams import while_valid
from api.strict import StrictRoute, only_known_parameters

_UNIT = "unit_of_work"


class UnitRoute(StrictRoute):
    """Runs a plain function as one unit of work: begun, done and committed in one thread, before the response.

    A `ReadSession` or `WriteSession` among its parameters says which; `async` endpoints see to their units themselves.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Make a `StrictRoute`."""
        self.writes = writing in _sessions_of(endpoint).values()
        super().__init__(path, endpoint if inspect.iscoroutinefunction(endpoint) else _as_unit(endpoint), **options)


class KeyedRoute(UnitRoute):
    """A route that needs a key: nobody without one makes us read a body, nor whose writes would wait too long."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the key."""
        handle, writes = super().get_route_handler(), self.writes

        async def keyed(request: Request) -> Response:
            principal = await authenticate(request)
            if writes:
                request.app.state.services.units.refuse_hopeless_write(principal.tenant_id)
            response = await handle(request)
            if isinstance(response, StreamingResponse | EventSourceResponse):
                pieces = cast("AsyncIterable[Any]", response.body_iterator)
                every_s = request.app.state.services.settings.key_cache_s
                response.body_iterator = while_valid(pieces, partial(still_authenticated, request), max(every_s, 0.5))
            return response

        return keyed


class DirectRoute(KeyedRoute):
    """A route that is asked for all the time: its `async` endpoint is called without FastAPI's dependencies.

    It has the path's parameters, `tenant` and `used`, no others, and answers with a response of its own.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint, behind the key."""
        endpoint = cast("Callable[..., Awaitable[Response]]", self.endpoint)

        async def handle(request: Request) -> Response:
            principal = await authenticate(request)
            await only_known_parameters(request)
            used = request.app.state.services
            return await endpoint(**request.path_params, tenant=principal.tenant_id, used=used)

        return handle


def _as_unit(endpoint: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    signature = inspect.signature(endpoint, eval_str=True)
    session = next(iter(_sessions_of(endpoint)), None)

    @wraps(endpoint)
    async def run(**values: Any) -> Any:
        unit: Unit = values.pop(session or _UNIT)
        if session is None:
            return await unit.run(lambda: endpoint(**values))
        return await unit.run(lambda opened: endpoint(**values, **{session: opened}))

    given = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
    if session is None:
        kind = Annotated[Unit, Depends(working)]
        given.append(inspect.Parameter(_UNIT, inspect.Parameter.KEYWORD_ONLY, annotation=kind))
    run.__signature__ = signature.replace(parameters=given)  # type: ignore[attr-defined]  # what FastAPI reads
    return run


def _sessions_of(endpoint: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that are sessions, and how each is asked for."""
    return {
        name: mark.dependency
        for name, parameter in inspect.signature(endpoint, eval_str=True).parameters.items()
        for mark in getattr(parameter.annotation, "__metadata__", ())
        if isinstance(mark, params.Depends) and mark.dependency in {reading, writing}
    }
