"""Units of work: each begins, works and commits within one thread, and there are fewer of them than connections.

A session that is opened in one thread and committed in another needs two: as many requests as there are threads would
then each hold something that the others wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from api.admission import PATIENCE_S, FairLimiter
from api.db import Database

T = TypeVar("T")
_WRITERS = 3  # more of them would only take turns for the interpreter, and the event loop with them
_SQLITE_WRITERS = 2  # one writes, the next one gets ready
_READERS = 6
_OTHERS = 8  # that ask the store, or the database only now and then
_KEYS = 2
MAX_CONNECTIONS = (
    _WRITERS + _READERS + _OTHERS + _KEYS + 5
)  # and what is read for many, the doorbell, event streams, health checks


class Units:
    """Runs the units of work of one process of the API; readers and writers have places of their own."""

    def __init__(self, database: Database) -> None:
        """Make the units of work; connections are opened by the first."""
        self._database = database
        self._writers = FairLimiter(_SQLITE_WRITERS if database.is_sqlite else _WRITERS)
        self._readers = FairLimiter(_READERS)
        self._others = FairLimiter(_OTHERS)
        self._keys = FairLimiter(_KEYS)
        self._for_many = anyio.CapacityLimiter(1)

    async def write(self, tenant_id: str, work: Callable[[Session], T], *, patience_s: float = PATIENCE_S) -> T:
        """Do `work` in one transaction, which is committed when this returns and rolled back when it raises.

        Raises:
            TooManyRequestsError: as `FairLimiter.run`, and so is UnavailableError.
        """
        return await self._writers.run(tenant_id, self._written, work, patience_s=patience_s)

    def refuse_hopeless_write(self, tenant_id: str) -> None:
        """Raises as `write`, where a request of the tenant that came now would wait too long."""
        self._writers.refuse_hopeless(tenant_id)

    async def read(self, tenant_id: str, work: Callable[[Session], T]) -> T:
        """Do `work` on a consistent view of the rows. Raises as `write`."""
        return await self._readers.run(tenant_id, self._read, work)

    async def look_up_key(self, key: str, work: Callable[[Session], T]) -> T:
        """Read what belongs to an API key. Raises as `write`."""
        return await self._keys.run(key, self._read, work)

    async def other(self, tenant_id: str, work: Callable[[], T]) -> T:
        """Do `work` that may wait for something else than the database. Raises as `write`."""
        return await self._others.run(tenant_id, work)

    async def read_for_many(self, work: Callable[[Connection], T]) -> T:
        """Do `work` for requests of several tenants, on a consistent view of the rows; one at a time."""
        return await anyio.to_thread.run_sync(self._read_bare, work, limiter=self._for_many)

    def _written(self, work: Callable[[Session], T]) -> T:
        with self._database.write() as session:
            return work(session)

    def _read(self, work: Callable[[Session], T]) -> T:
        with self._database.read() as session:
            return work(session)

    def _read_bare(self, work: Callable[[Connection], T]) -> T:
        with self._database.engine.connect() as connection:
            return work(connection)
