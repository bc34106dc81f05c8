"""Requests under way with an idempotency key: the same one sent twice at once waits here, and holds no thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import anyio

from api.admission import PATIENCE_S
from api.errors import NotYetError

_RETRY_S = 1


class InFlight:
    """A lock of one event loop: one request at a time for each place. Between processes the database sees to that."""

    def __init__(self) -> None:
        """Begin with no request under way."""
        self._turns: dict[Hashable, anyio.Semaphore] = {}
        self._users: dict[Hashable, int] = {}

    @asynccontextmanager
    async def alone(self, place: Hashable) -> AsyncIterator[None]:
        """Wait until no other is at the place, for a moment.

        Raises:
            NotYetError: the other one takes longer; the same request can be sent again a little later.
        """
        turn = self._turns.setdefault(place, anyio.Semaphore(1))
        self._users[place] = self._users.get(place, 0) + 1
        try:
            with anyio.move_on_after(PATIENCE_S) as waiting:
                await turn.acquire()
            if waiting.cancelled_caught:
                message = "A request with this key is still being carried out. Send it again a little later."
                raise NotYetError("idempotency_key_in_use", message, retry_after_s=_RETRY_S)
            try:
                yield
            finally:
                turn.release()
        finally:
            self._users[place] -= 1
            if not self._users[place]:
                del self._users[place], self._turns[place]
