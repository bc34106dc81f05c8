"""Questions of one kind that come while others are answered: the next unit of work answers all of them.

Under load a question then costs a part of a unit, and one that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

from api.admission import PATIENCE_S
from api.errors import UnavailableError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_MOST = 100  # in one round
_RETRY_S = 1
_KNOWN_S = 1.0  # what is answered may also depend on the time


@dataclass(frozen=True)
class Answer:
    """Something as JSON, for requests of its tenant."""

    tenant_id: str
    body: bytes


class CoalescedReads(Generic[K, V]):
    """Answers by `read`, one round at a time; of one event loop.

    What is answered was read after it was asked for, or is what would be read: nobody is told what was true before.
    """

    def __init__(
        self, read: Callable[[list[K]], Awaitable[Mapping[K, V]]], version: Callable[[], int | None] = lambda: None
    ) -> None:
        """Answer by `read`; `version` is another one once anything has changed, None where it cannot tell."""
        self._read = read
        self._version = version
        self._known: dict[K, V] = {}
        self._known_version: int | None = None
        self._known_until = 0.0
        self._asked: list[tuple[K, asyncio.Future[V | None]]] = []
        self._rounds: asyncio.Task[None] | None = None

    async def ask(self, key: K) -> V | None:
        """Return what `read` finds for the key; None where it finds nothing. Errors of `read` are passed on.

        Raises:
            UnavailableError: it takes too long.
        """
        loop = asyncio.get_running_loop()
        if key in self._known and loop.time() < self._known_until and self._version() == self._known_version:
            return self._known[key]
        answered: asyncio.Future[V | None] = loop.create_future()
        self._asked.append((key, answered))
        if self._rounds is None:
            self._rounds = loop.create_task(self._answer(), context=Context())  # none of this request's own
        try:
            async with asyncio.timeout(2 * PATIENCE_S):  # as a place is waited for, and then the database
                return await answered
        except TimeoutError:
            message = f"The service has too much to do at the moment. Try again in {_RETRY_S} s."
            raise UnavailableError("busy", message, retry_after_s=_RETRY_S) from None

    async def _answer(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked[:_MOST], self._asked[_MOST:]
                waiting = [(key, answered) for key, answered in asked if not answered.done()]
                version = self._version()
                try:
                    found = await self._read(list({key for key, _ in waiting}))
                except Exception as error:  # noqa: BLE001  # theirs who asked
                    _settle(waiting, lambda _, answered, error=error: answered.set_exception(error))
                else:
                    self._keep(version, found)
                    _settle(waiting, lambda key, answered, found=found: answered.set_result(found.get(key)))
        finally:
            self._rounds = None

    def _keep(self, version: int | None, found: Mapping[K, V]) -> None:
        """Remember what was read at a version, and what else was read at it."""
        now = asyncio.get_running_loop().time()
        if version is None or version != self._known_version or now >= self._known_until or len(self._known) > _MOST:
            self._known, self._known_version, self._known_until = {}, version, now + _KNOWN_S
        if version is not None:
            self._known.update(found)


def _settle(waiting: list[tuple[K, asyncio.Future[V | None]]], settle: Callable[..., None]) -> None:
    for key, answered in waiting:
        if not answered.done():  # who asked may have gone away
            settle(key, answered)
