"""Following jobs: one reader a process asks the database for all who listen, and each takes from what it found."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from operator import itemgetter

import anyio
import anyio.to_thread
import structlog
from sse_starlette import ServerSentEvent

from api.db import Database
from api.errors import UnavailableError, not_found
from api.events import repository
from api.events.schemas import event_out
from api.jobs.models import Event
from api.jobs.states import FINAL
from api.keys import repository as keys

LOOK_S = 0.5
KEYS_S = 5.0  # after this time at the latest the streams of a revoked key end
KEPT = 1000  # events of a job in memory; who needs older ones reads them from the database, a page at a time
_PAGE = 200
_PAGES = 64  # of older events that are remembered for other listeners
_FIRST_LOOK_S = 5.0
log = structlog.get_logger(__name__)
Sent = tuple[int, bytes]
"""Number of an event, and the event as it is sent."""


@dataclass(frozen=True)
class News:
    """What one reading of the rows found of one job."""

    tenant_id: str
    since: int
    """Number of the event beyond which the reading looked."""
    events: list[Sent]
    is_over: bool


@dataclass(eq=False)
class Watched:
    """A job that somebody listens to."""

    job_id: str
    tenant_id: str | None = None
    """The job's tenant; None where there is no such job, or nobody has looked yet."""
    listeners: int = 0
    floor: int = 0
    """Number of the last event that is no longer in memory."""
    events: list[Sent] = field(default_factory=list)
    is_over: bool = False
    """Whether all of the job's events are known, and none will follow."""
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def known(self) -> int:
        """Number of the last event that was read."""
        return self.events[-1][0] if self.events else self.floor

    def after(self, number: int) -> list[Sent] | None:
        """The next events after `number`; None if they are no longer in memory."""
        if number < self.floor:
            return None
        begin = bisect_right(self.events, number, key=itemgetter(0))
        return self.events[begin : begin + _PAGE]

    def take(self, news: News | None) -> None:
        """Note what was found, and wake the listeners of it; None: the job was deleted, or was never there."""
        is_first = self.tenant_id is None
        if news is None:
            self.tenant_id, self.is_over = None, True
        else:
            self.tenant_id, self.is_over = news.tenant_id, news.is_over
            self.floor = news.since if is_first else self.floor
            self.events += news.events
            if excess := self.events[:-KEPT]:
                self.floor = excess[-1][0]
                self.events = self.events[-KEPT:]
        if is_first or self.is_over or (news is not None and news.events):
            self.tell()

    def tell(self) -> None:
        """Wake all listeners: something changed."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


class Following:
    """The listeners of one event loop, by job.

    A listener that is slow holds up nobody, and nothing is kept for it: it goes on from the number it has got to.
    """

    def __init__(self, database: Database) -> None:
        """The reader starts with the first listener, and ends after the last."""
        self._database = database
        self._jobs: dict[str, Watched] = {}
        self._keys: Counter[str] = Counter()
        self._revoked: set[str] = set()
        self._reader: asyncio.Task[None] | None = None
        self._wake = anyio.Event()
        self._pages: dict[tuple[str, int], list[Sent]] = {}
        self._paging = anyio.Lock()
        self._thread = anyio.CapacityLimiter(1)

    async def watch(self, tenant_id: str, job_id: str) -> Watched:
        """The tenant's job, to be followed.

        Raises:
            NotFoundError: there is none.
            UnavailableError: the database does not answer.
        """
        watched = self._jobs.setdefault(job_id, Watched(job_id))
        if watched.tenant_id is None:
            changed = watched.changed
            self._start()
            with anyio.move_on_after(_FIRST_LOOK_S) as waiting:
                await changed.wait()
            if waiting.cancelled_caught:
                raise UnavailableError("database_unavailable", "The database does not answer. Try again later.")
        if watched.tenant_id != tenant_id:
            raise not_found("job", job_id)
        return watched

    async def follow(self, watched: Watched, number: int, key_id: str) -> AsyncIterator[bytes]:
        """Events after `number` as they are sent, until the job is over or the key is revoked."""
        watched = self._jobs.setdefault(watched.job_id, watched)
        watched.listeners += 1
        self._keys[key_id] += 1
        self._start()
        try:
            while key_id not in self._revoked:
                changed = watched.changed
                found = watched.after(number)
                if found is None:
                    found = await self._page(watched.job_id, number)
                if found:
                    number = found[-1][0]
                    yield b"".join(text for _, text in found)
                elif watched.is_over:
                    return
                else:
                    await changed.wait()
        finally:
            watched.listeners -= 1
            self._keys[key_id] -= 1
            if not self._keys[key_id]:
                del self._keys[key_id]
                self._revoked.discard(key_id)

    async def close(self) -> None:
        """End the reader, before the database is closed."""
        if self._reader is not None and not self._reader.done():
            self._reader.cancel()
            await asyncio.wait([self._reader])

    def _start(self) -> None:
        self._wake.set()
        if self._reader is None or self._reader.done():
            self._reader = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        looked_at_keys = anyio.current_time()
        while self._jobs:
            self._wake = anyio.Event()
            try:
                await self._look()
                if anyio.current_time() - looked_at_keys > KEYS_S:
                    looked_at_keys = anyio.current_time()
                    await self._look_at_keys()
            except Exception:  # whatever a database throws: who listens waits until it answers again
                log.warning("events_not_read", exc_info=True)
                await anyio.sleep(LOOK_S)
            with anyio.move_on_after(LOOK_S):
                await self._wake.wait()

    async def _look(self) -> None:
        asked = list(self._jobs.values())
        known = {watched.job_id: None if watched.tenant_id is None else watched.known for watched in asked}
        news = await anyio.to_thread.run_sync(_news, self._database, known, limiter=self._thread)
        for watched in asked:
            watched.take(news.get(watched.job_id))
            if not watched.listeners:
                del self._jobs[watched.job_id]  # whoever was about to listen puts it back

    async def _look_at_keys(self) -> None:
        def valid() -> set[str]:
            with self._database.read() as session:
                return keys.valid_among(session, list(self._keys))

        asked = set(self._keys)
        self._revoked = asked - await anyio.to_thread.run_sync(valid, limiter=self._thread)
        if self._revoked:
            for watched in self._jobs.values():
                watched.tell()

    async def _page(self, job_id: str, number: int) -> list[Sent]:
        """Older events, read once for all who come from there."""
        async with self._paging:
            found = self._pages.get((job_id, number))
            if found is None:
                found = await anyio.to_thread.run_sync(_older, self._database, job_id, number, limiter=self._thread)
                if len(found) == _PAGE:  # more are not added to it
                    self._pages[job_id, number] = found
                if len(self._pages) > _PAGES:
                    del self._pages[next(iter(self._pages))]
        return found


def _news(database: Database, known: dict[str, int | None]) -> dict[str, News]:
    """Events by job that came after the number that is known of it.

    Of a job that is new to us the last that are kept.
    """
    news = {}
    with database.read() as session:
        for job in repository.states_of(session, list(known)):
            since = known[job.id]
            if since is None:
                since = max(0, job.last_event - KEPT)
            rows: list[Event] = []
            if job.last_event > since:
                rows = repository.page(session, job.id, after=since, limit=KEPT, ascending=True)
            reached = rows[-1].number if rows else since
            is_over = job.status in FINAL and reached >= job.last_event
            news[job.id] = News(job.tenant_id, since, [_sent(row) for row in rows], is_over)
    return news


def _older(database: Database, job_id: str, number: int) -> list[Sent]:
    with database.read() as session:
        return [_sent(row) for row in repository.page(session, job_id, after=number, limit=_PAGE, ascending=True)]


def _sent(event: Event) -> Sent:
    shown = event_out(event)
    text = ServerSentEvent(data=shown.model_dump_json(), event=shown.type, id=shown.id, sep="\n")
    return event.number, text.encode()
