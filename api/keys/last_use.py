"""When keys were used last: noted in memory with each request, written for all keys together once a minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

_EVERY_S = 60.0
_CLOSE_S = 2.0
Write = Callable[[Mapping[str, float]], Awaitable[None]]
log = structlog.get_logger(__name__)


class LastUse:
    """Notes uses of keys. No request waits for what is written, and none fails with it."""

    def __init__(self, write: Write) -> None:
        """`write` is given Unix seconds of the last use by key."""
        self._write = write
        self._noted: dict[str, float] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, key_id: str) -> None:
        """The key is used now."""
        self._noted[key_id] = time.time()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def close(self) -> None:
        """Write what was noted, if that is done soon."""
        if self._writing is not None:
            self._writing.cancel()
        try:
            await asyncio.wait_for(self._write_noted(), _CLOSE_S)
        except TimeoutError:
            log.warning("last_use_not_written", reason="shutdown")

    async def _write_later(self) -> None:
        await asyncio.sleep(_EVERY_S)
        await self._write_noted()

    async def _write_noted(self) -> None:
        noted, self._noted = self._noted, {}
        if not noted:
            return
        try:
            await self._write(noted)
        except Exception:
            log.warning("last_use_not_written", exc_info=True)
