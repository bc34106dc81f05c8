"""Answers that go on for long: they end when the key that asked for them does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from api.errors import UnauthenticatedError

T = TypeVar("T")


async def while_valid(
    pieces: AsyncIterable[T], look: Callable[[], Awaitable[object]], every_s: float
) -> AsyncIterator[T]:
    """The pieces, until `look`, which is asked every `every_s`, raises UnauthenticatedError."""
    iterator, loop = aiter(pieces), asyncio.get_running_loop()
    looked_at = loop.time()
    following: asyncio.Future[T] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_next(iterator))
            done, _ = await asyncio.wait({following}, timeout=max(0.0, looked_at + every_s - loop.time()))
            if loop.time() >= looked_at + every_s:
                looked_at = loop.time()
                await look()
            if done:
                piece, following = following.result(), None
                yield piece
    except (StopAsyncIteration, UnauthenticatedError):
        return
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


async def _next(iterator: AsyncIterator[T]) -> T:
    return await anext(iterator)
