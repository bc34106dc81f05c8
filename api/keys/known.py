"""Keys that were looked up a moment ago: not each of a client's requests asks the database for its key."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

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
        """With 0 nothing is remembered."""
        self._ttl_s = ttl_s
        self._known: dict[bytes, tuple[float, Principal]] = {}

    async def principal(self, token: str, look_up: Callable[[], Awaitable[Principal]]) -> Principal:
        """Whose the token is, from memory or as `look_up` says, whose errors are passed on."""
        digest, now = hashlib.sha256(token.encode()).digest(), time.monotonic()
        found = self._known.get(digest)
        if found is not None and now < found[0]:
            return found[1]
        principal = await look_up()
        self._known.pop(digest, None)
        self._known[digest] = (now + self._ttl_s, principal)
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]
        return principal
