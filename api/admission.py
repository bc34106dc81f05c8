"""Places for work at once. Tenants take turns for them, so that nobody's burst makes the others wait for all of it."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from api.errors import ServiceError, TooManyRequestsError, UnavailableError

T = TypeVar("T")
PATIENCE_S = 1.0  # that a request waits for a place, and once more that its unit of work waits for the database
_MAX_RETRY_S = 60  # OpenAI's clients heed no longer ones
_FIRST_GUESS_S = 0.02  # of the time that a place is taken for
_MEMORY = 0.9  # of the running mean of that time


class FairLimiter:
    """A number of threads of one event loop, and the requests that wait for one of them.

    A tenant whose turn it is gets the next place, however many requests of others came before. With `shares` a tenant
    moreover takes no more places than it leaves free: half of all for one alone, a third each for two.
    """

    def __init__(self, places: int, *, shares: bool = False) -> None:
        """Begin with all places free."""
        self._places = self._free = places
        self._shares = shares
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[anyio.Event]] = {}  # whose turn is next comes first
        self._threads = anyio.CapacityLimiter(places)
        self._taken_s = _FIRST_GUESS_S
        self._promised_at = 0.0

    async def run(self, tenant_id: str, work: Callable[..., T], *args: object, patience_s: float = PATIENCE_S) -> T:
        """Do `work` in a thread once there is a place for the tenant.

        Who has waited for `patience_s`, or would for longer, is refused and told when to come back.

        Raises:
            TooManyRequestsError: the tenant's own requests have all places that it can have, for too long.
            UnavailableError: those of others have them.
        """
        await self._enter(tenant_id, patience_s)
        began = time.monotonic()
        try:
            return await anyio.to_thread.run_sync(partial(work, *args), limiter=self._threads)
        finally:
            self._taken_s = _MEMORY * self._taken_s + (1 - _MEMORY) * (time.monotonic() - began)
            self._leave(tenant_id)

    def refuse_hopeless(self, tenant_id: str, patience_s: float = PATIENCE_S) -> None:
        """Refuse a request that would wait too long, as far as the work of late tells: it need not be read then.

        Raises:
            TooManyRequestsError: as `run`, and so is UnavailableError.
        """
        ahead = len(self._waiting.get(tenant_id, ())) * len(self._waiting)  # as many of each other tenant at most
        if ahead >= self._places and ahead * self._taken_s / self._places > patience_s:
            raise self._refusal(tenant_id)

    async def _enter(self, tenant_id: str, patience_s: float) -> None:
        if tenant_id not in self._waiting and self._has_place(tenant_id):
            self._take(tenant_id)
            return
        self.refuse_hopeless(tenant_id, patience_s)
        turn = anyio.Event()
        self._waiting.setdefault(tenant_id, deque()).append(turn)
        try:
            with anyio.move_on_after(patience_s):
                await turn.wait()
        except BaseException:
            if turn.is_set():
                self._leave(tenant_id)
            else:
                self._forget(tenant_id, turn)
            raise
        if not turn.is_set():
            self._forget(tenant_id, turn)
            raise self._refusal(tenant_id)

    def _has_place(self, tenant_id: str) -> bool:
        return self._free > (self._held[tenant_id] if self._shares else 0)

    def _take(self, tenant_id: str) -> None:
        self._free -= 1
        self._held[tenant_id] += 1

    def _leave(self, tenant_id: str) -> None:
        self._free += 1
        self._held[tenant_id] -= 1
        if not self._held[tenant_id]:
            del self._held[tenant_id]
        while (following := next(filter(self._has_place, self._waiting), None)) is not None:
            turn = self._waiting[following][0]
            self._forget(following, turn, to_the_end=True)
            self._take(following)
            turn.set()

    def _forget(self, tenant_id: str, turn: anyio.Event, *, to_the_end: bool = False) -> None:
        queue = self._waiting[tenant_id]
        queue.remove(turn)
        if to_the_end or not queue:
            del self._waiting[tenant_id]
        if to_the_end and queue:
            self._waiting[tenant_id] = queue

    def _refusal(self, tenant_id: str) -> ServiceError:
        """Promise each refused request a moment of its own: all coming back at once would be refused again."""
        now = time.monotonic()
        self._promised_at = max(self._promised_at, now) + self._taken_s / self._places
        retry_s = min(max(math.ceil(self._promised_at - now), 1), _MAX_RETRY_S)
        if self._held[tenant_id]:
            message = f"Too many requests at once: others of yours were not done yet. Try again in {retry_s} s."
            return TooManyRequestsError("too_many_requests", message, retry_after_s=retry_s)
        message = f"The service has too much to do at the moment. Try again in {retry_s} s."
        return UnavailableError("busy", message, retry_after_s=retry_s)
