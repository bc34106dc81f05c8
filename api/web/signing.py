"""The secret that signs sessions, the same for all processes that answer under one address."""

from __future__ import annotations

import hashlib
import hmac

from fastapi import Request

from api.settings import Settings
from api.storage.links import signing_secret
from api.web.sessions import Signer

_FILE = "session-signing.key"


def signer(request: Request) -> Signer:
    """The app's signer, made when it is needed first."""
    state = request.app.state
    if not hasattr(state, "web_signer"):
        settings: Settings = state.services.settings
        state.web_signer = Signer(secret_of(settings), settings.session_ttl_s)
    found: Signer = state.web_signer
    return found


def secret_of(settings: Settings) -> bytes:
    """The secret that is given, or one made of the store's, or the data folder's own."""
    if settings.session_secret is not None:
        return settings.session_secret.get_secret_value().encode()
    if settings.s3_secret_access_key is not None:
        key = settings.s3_secret_access_key.get_secret_value().encode()
        return hmac.new(key, b"difftune: signs sessions of pages", hashlib.sha256).digest()
    return signing_secret(settings.data_dir, _FILE)
