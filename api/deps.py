"""What endpoints ask for. A session is given to the endpoint by its route, which commits before the response."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, Protocol, TypeVar

import anyio.from_thread
import anyio.to_thread
from fastapi import Depends, Header, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from api.admission import FairLimiter
from api.coalescing import Answer, CoalescedReads
from api.db import Database, is_busy
from api.errors import ServiceError, UnauthenticatedError
from api.idempotency.in_flight import InFlight
from api.idempotency.service import HEADER, PATTERN, Once, key_of
from api.keys import service as keys
from api.keys.known import KnownKeys, Principal
from api.keys.last_use import LastUse
from api.settings import Settings
from api.storage import ObjectStore
from api.storage.cleaning import delete_objects
from api.units import Units

T = TypeVar("T")
_ONCE = "Any string of your own, new for each request; sent again, it gives the same answer and does nothing."
_ONCE_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "string", "pattern": PATTERN, "minLength": 1, "maxLength": 257}]}
_RECEIVED_PATIENCE_S = 3.0
MAX_RECEIVING = 32  # uploads at once; they have threads of their own, so that slow clients hold up nobody else


class Doorbell(Protocol):
    """Tells workers to look; `api.queue.Doorbell`."""

    def ring(self) -> bool:
        """Ring the doorbell; never raise."""
        ...


class Following(Protocol):
    """Tells listeners what happens to jobs; `api.events.following.Following`."""

    async def watch(self, tenant_id: str, job_id: str) -> Any:
        """The tenant's job, to be followed."""
        ...

    def follow(self, watched: Any, number: int, key_id: str) -> AsyncIterator[bytes]:
        """Events after `number`, until the job is over or the key is revoked."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...


@dataclass(frozen=True)
class Services:
    """What one process of the API holds open."""

    settings: Settings
    database: Database
    store: ObjectStore
    doorbell: Doorbell
    units: Units
    known_keys: KnownKeys
    known_sessions: KnownKeys
    """Keys that sessions of pages were opened with, by their ids."""
    last_use: LastUse
    following: Following
    jobs_asked: CoalescedReads[str, Answer]
    receiving: FairLimiter = field(default_factory=lambda: FairLimiter(MAX_RECEIVING, shares=True))
    in_flight: InFlight = field(default_factory=InFlight)


async def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


async def authenticate(request: Request) -> Principal:
    """Return who the request comes from, asked for once. Routes with a key do this before they read the body.

    Raises:
        UnauthenticatedError: there is no key, or it is not valid.
    """
    known: Principal | None = getattr(request.state, "principal", None)
    if known is not None:
        return known
    used: Services = request.app.state.services
    of_page: str | None = getattr(request.state, "session_key", None)
    if of_page is not None:
        found = await principal_of_session(used, of_page)
    else:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("missing_api_key", "Send your API key: Authorization: Bearer dft_...")
        found = await principal_of_key(used, token)
    request.state.principal = found
    return found


async def principal_of_key(used: Services, token: str) -> Principal:
    """Whose the key is. Raises as `authenticate`."""
    found = await used.known_keys.principal(token, partial(_look_up, used, token))
    used.last_use.note(found.key_id)
    return found


async def principal_of_session(used: Services, key_id: str) -> Principal:
    """Whose the session is that a page has opened with the key. Raises as `authenticate`."""
    found = await used.known_sessions.principal(key_id, partial(_look_up_id, used, key_id))
    used.last_use.note(found.key_id)
    return found


async def still_authenticated(request: Request) -> Principal:
    """Ask anew for the key's tenant, as `authenticate` does: for answers that outlast what is remembered of a key."""
    request.state.principal = None
    return await authenticate(request)


async def _look_up(used: Services, token: str) -> Principal:
    def look(session: Session) -> Principal:
        key = keys.verify(session, token)
        return Principal(tenant_id=key.tenant_id, key_id=key.id)

    return await used.units.look_up_key(keys.id_in(token), look)


async def _look_up_id(used: Services, key_id: str) -> Principal:
    def look(session: Session) -> Principal:
        key = keys.still_valid(session, key_id)
        return Principal(tenant_id=key.tenant_id, key_id=key.id)

    return await used.units.look_up_key(key_id, look)


_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="`Authorization: Bearer dft_...`")


async def tenant(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The tenant whose key the request carries.

    Raises:
        UnauthenticatedError: as `authenticate`.
    """
    return (await authenticate(request)).tenant_id


Tenant = Annotated[str, Depends(tenant)]


@dataclass(frozen=True)
class Unit:
    """How an endpoint is run: what a route gets in place of a session."""

    run: Callable[[Callable[..., Any]], Awaitable[Any]]


def _unit_of(request: Request, name: str) -> Unit:
    used: Services = request.app.state.services
    principal: Principal | None = getattr(request.state, "principal", None)
    return Unit(partial(getattr(used.units, name), principal.tenant_id if principal else ""))


async def reading(request: Request) -> Unit:
    """A unit of work that reads rows."""
    return _unit_of(request, "read")


async def writing(request: Request) -> Unit:
    """A unit of work that writes rows, in one transaction."""
    return _unit_of(request, "write")


async def working(request: Request) -> Unit:
    """A unit of work that needs no session."""
    return _unit_of(request, "other")


ReadSession = Annotated[Session, Depends(reading)]
WriteSession = Annotated[Session, Depends(writing)]


async def once(
    request: Request,
    response: Response,
    tenant_id: Tenant,
    used: ServicesDep,
    given: Annotated[str | None, Header(alias=HEADER, description=_ONCE, json_schema_extra=_ONCE_SCHEMA)] = None,
) -> AsyncIterator[Once]:
    """The request as one that takes effect once, where it says so."""
    asked = Once(tenant_id, f"{request.method} {request.url.path}", key_of(given), response.headers)
    if asked.key is None:
        yield asked
        return
    async with used.in_flight.alone((asked.tenant_id, asked.scope, asked.key)):
        yield asked


OnceDep = Annotated[Once, Depends(once, scope="function")]

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


async def in_receiving_thread(used: Services, tenant_id: str, work: Callable[..., T], *args: Any) -> T:
    """Run `work` in a thread where `body_chunks` can be read."""
    return await used.receiving.run(tenant_id, work, *args)


async def keep_received(used: Services, tenant_id: str, key: str, work: Callable[[Session], T]) -> T:
    """Write the rows of what was received, with more patience: it cost its sender time. Refused, the object goes."""
    try:
        return await used.units.write(tenant_id, work, patience_s=_RECEIVED_PATIENCE_S)
    except Exception as error:
        if isinstance(error, ServiceError) or is_busy(error):  # else a commit may have got through
            await anyio.to_thread.run_sync(delete_objects, used.store, [key])
        raise
