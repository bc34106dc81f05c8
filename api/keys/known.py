"""Keys that were looked up a moment ago: not each of a client's requests asks the database for its key."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

_MOST = 4096


@dataclass(frozen=True)
class Principal:
    """Who a request comes from."""

    tenant_id: str
    key_id: str


class KnownKeys:
    """Remembers whose a key is for `ttl_s`: one that is revoked is refused after that time at the latest.

    Keys that were refused are not remembered. Tokens are kept as hashes.
    """

    def __init__(self, ttl_s: float) -> None:
        """Remember keys for `ttl_s` seconds; with 0 remember nothing."""
        self._ttl_s = ttl_s
        self._known: dict[bytes, tuple[float, Principal]] = {}
        self._looking: dict[bytes, anyio.Event] = {}

    async def principal(self, token: str, look_up: Callable[[], Awaitable[Principal]]) -> Principal:
        """Whose the token is, from memory or as `look_up` says, whose errors are passed on."""
        digest = hashlib.sha256(token.encode()).digest()
        while (principal := self._remembered(digest)) is None:
            if (under_way := self._looking.get(digest)) is None:
                return await self._looked_up(digest, look_up)
            await under_way.wait()  # one look-up for all requests that come with the key meanwhile
        return principal

    def _remembered(self, digest: bytes) -> Principal | None:
        until, principal = self._known.get(digest, (0.0, None))
        return principal if time.monotonic() < until else None

    async def _looked_up(self, digest: bytes, look_up: Callable[[], Awaitable[Principal]]) -> Principal:
        ended = self._looking[digest] = anyio.Event()
        try:
            principal = await look_up()
        finally:
            del self._looking[digest]
            ended.set()
        self._known.pop(digest, None)
        self._known[digest] = (time.monotonic() + self._ttl_s, principal)
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]
        return principal
