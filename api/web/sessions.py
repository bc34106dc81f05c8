"""A browser's session: a signed cookie that names the key it was opened with. Nothing is stored; it ends with the key.

The cookie holds no secret: who reads it has a session until it expires, and not the key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

COOKIE = "difftune_session"
_COOKIE = re.compile(r"(?P<key>key_[0-9A-Z]{26})\.(?P<expires>[0-9]{1,12})\.(?P<nonce>[0-9a-f]{32})\.[0-9a-f]{64}")


@dataclass(frozen=True)
class WebSession:
    """Who is logged in. `expires` is in Unix seconds."""

    key_id: str
    expires: int
    nonce: str


class Signer:
    """Signs sessions, and the forms of their pages."""

    def __init__(self, secret: bytes, ttl_s: float) -> None:
        """`secret` is the same for all processes of the API; a session lasts `ttl_s`."""
        self._secret = secret
        self.ttl_s = ttl_s

    def opened(self, key_id: str) -> str:
        """Open a session of the key: the cookie's value."""
        text = f"{key_id}.{int(time.time() + self.ttl_s)}.{secrets.token_hex(16)}"
        return f"{text}.{self._signature('session', text)}"

    def read(self, cookie: str) -> WebSession | None:
        """The session that a cookie opens; None where it was changed or has expired."""
        matched = _COOKIE.fullmatch(cookie)
        if matched is None:
            return None
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature, self._signature("session", text)):
            return None
        session = WebSession(matched["key"], int(matched["expires"]), matched["nonce"])
        return session if session.expires > time.time() else None

    def form_token(self, session: WebSession) -> str:
        """Return what a form of the session's pages carries: a page of others cannot know it."""
        return self._signature("form", f"{session.key_id}.{session.nonce}")

    def is_form_token(self, session: WebSession, given: str) -> bool:
        """Return whether a form comes from a page of the session."""
        return hmac.compare_digest(given.encode(), self.form_token(session).encode())

    def _signature(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()
