"""What endpoints ask for. Sessions commit before the response: `scope="function"`, tested in tests/api."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, Protocol, TypeVar

import anyio.from_thread
import anyio.to_thread
from fastapi import Depends, Header, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from api.db import Database
from api.errors import UnauthenticatedError
from api.idempotency.service import HEADER, Once, key_of
from api.keys import service as keys
from api.settings import Settings
from api.storage import ObjectStore

T = TypeVar("T")
_ONCE = "Any string of your own, new for each request; sent again, it gives the same answer and does nothing."
MAX_RECEIVING = 32  # uploads at once; they have threads of their own, so that slow clients hold up nobody else


class Doorbell(Protocol):
    """Tells workers to look; `api.queue.Doorbell`."""

    def ring(self) -> bool:
        """Never raises."""
        ...


@dataclass(frozen=True)
class Services:
    """What one process of the API holds open."""

    settings: Settings
    database: Database
    store: ObjectStore
    doorbell: Doorbell
    receiving: anyio.CapacityLimiter


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def _read(used: ServicesDep) -> Iterator[Session]:
    with used.database.read() as session:
        yield session


def _write(used: ServicesDep) -> Iterator[Session]:
    with used.database.write() as session:
        yield session


ReadSession = Annotated[Session, Depends(_read, scope="function")]
WriteSession = Annotated[Session, Depends(_write, scope="function")]

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="`Authorization: Bearer dft_...`")


def tenant(used: ServicesDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The tenant whose key the request carries.

    Raises:
        UnauthenticatedError: there is no key, or it is not valid.
    """
    if given is None:
        raise UnauthenticatedError("missing_api_key", "Send your API key: Authorization: Bearer dft_...")
    with used.database.read() as session:
        return keys.verify(session, given.credentials).tenant_id


Tenant = Annotated[str, Depends(tenant)]


def once(
    request: Request,
    response: Response,
    tenant_id: Tenant,
    given: Annotated[str | None, Header(alias=HEADER, description=_ONCE, max_length=300)] = None,
) -> Once:
    """The request as one that takes effect once, where it says so."""
    return Once(tenant_id, f"{request.method} {request.url.path}", key_of(given), response.headers)


OnceDep = Annotated[Once, Depends(once)]

After = Annotated[str | None, Query(max_length=255, description="Id of the last item of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100, description="Items on a page, at most.")]
Order = Annotated[Literal["asc", "desc"], Query(description="`desc`: newest first.")]


def body_chunks(request: Request) -> Iterator[bytes]:
    """The body as it arrives, for a thread that `in_receiving_thread` runs."""
    stream = request.stream()
    while chunk := anyio.from_thread.run(_next, stream):
        yield chunk


async def _next(stream: Any) -> bytes:
    async for chunk in stream:
        if chunk:
            return bytes(chunk)
    return b""


async def in_receiving_thread(used: Services, work: Callable[..., T], *args: Any) -> T:
    """Run `work` in a thread where `body_chunks` can be read."""
    return await anyio.to_thread.run_sync(partial(work, *args), limiter=used.receiving)
