"""API keys: `dft_<id>_<secret>_<crc>`. The prefix lets leak scanners find them, the checksum spares them guesses."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
import zlib

from sqlalchemy.orm import Session

from api.errors import UnauthenticatedError, not_found
from api.ids import new_id
from api.keys import repository
from api.keys.models import ApiKey

FIRST_TENANT = "default"
KEY_FILE = "api-key"
_SECRET_BYTES = 20  # 160 bits: a fast hash is enough for a random secret
_TOKEN = re.compile(r"dft_([0-9A-Z]{26})_([0-9a-f]{40})_([0-9a-f]{8})")
_NO_HASH = "0" * 64


def create(session: Session, *, tenant_id: str, name: str, expires_at: float | None = None) -> tuple[ApiKey, str]:
    """A new key and its text, which is shown this once: the row keeps only a hash."""
    key = ApiKey(id=new_id("key"), tenant_id=tenant_id, name=name, created_at=time.time(), expires_at=expires_at)
    secret = secrets.token_hex(_SECRET_BYTES)
    key.secret_sha256 = _hashed(secret)
    session.add(key)
    return key, _text(key.id, secret)


def verify(session: Session, token: str) -> ApiKey:
    """The key behind a bearer token, in the same time whether or not it exists.

    Raises:
        UnauthenticatedError: it is none of ours, was revoked or has expired.
    """
    matched = _TOKEN.fullmatch(token)
    if matched is None or matched[0] != _text(f"key_{matched[1]}", matched[2]):
        raise UnauthenticatedError("invalid_api_key", "This is not an API key of this service (dft_...).")
    key = repository.find(session, f"key_{matched[1]}")
    same = hmac.compare_digest(key.secret_sha256 if key else _NO_HASH, _hashed(matched[2]))
    return _valid(key if same else None)


def still_valid(session: Session, key_id: str) -> ApiKey:
    """The key that was verified before, by its id.

    Raises:
        UnauthenticatedError: it was revoked or has expired since.
    """
    return _valid(repository.find(session, key_id))


def _valid(key: ApiKey | None) -> ApiKey:
    if key is None or key.revoked_at is not None:
        raise UnauthenticatedError("invalid_api_key", "The API key is unknown or was revoked.")
    if key.expires_at is not None and key.expires_at <= time.time():
        raise UnauthenticatedError("invalid_api_key", "The API key has expired.")
    return key


def id_in(token: str) -> str:
    """Id of the key that a bearer token claims to be; empty if it can be none of ours."""
    matched = _TOKEN.fullmatch(token)
    return f"key_{matched[1]}" if matched else ""


def revoke(session: Session, *, tenant_id: str, key_id: str) -> ApiKey:
    """End a key at once; a second time changes nothing.

    Raises:
        NotFoundError: the tenant has no such key.
    """
    key = repository.find(session, key_id)
    if key is None or key.tenant_id != tenant_id:
        raise not_found("key", key_id)
    key.revoked_at = key.revoked_at or time.time()
    return key


def _text(key_id: str, secret: str) -> str:
    body = f"dft_{key_id.removeprefix('key_')}_{secret}"
    return f"{body}_{zlib.crc32(body.encode()):08x}"


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
