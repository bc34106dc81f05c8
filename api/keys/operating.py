"""What an operator does with the keys of all tenants: `difftune keys` runs this where the database is."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from api.db import Database
from api.errors import InvalidInputError, UnauthenticatedError, not_found
from api.keys import repository, service
from api.keys.files import keep_first, read_first_id, write_first
from api.keys.models import ApiKey

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_MAX_NAME = 128


@dataclass(frozen=True)
class Made:
    """A new key, whose `token` is shown once."""

    key: ApiKey
    token: str


def add(session: Session, *, tenant_id: str, name: str, expires_at: float | None = None) -> Made:
    """A key for a tenant, which is there from its first key on.

    Raises:
        InvalidInputError: a name is none, or the time is over.
    """
    if not _TENANT.fullmatch(tenant_id):
        message = f"A tenant's name has at most 40 letters, digits, dots, dashes and underscores; not {tenant_id!r}."
        raise InvalidInputError("invalid_value", message, param="tenant")
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise InvalidInputError("invalid_value", f"A key's name has 1 to {_MAX_NAME} characters.", param="name")
    if expires_at is not None and expires_at <= time.time():
        raise InvalidInputError("invalid_value", "The key would have expired already.", param="expires")
    return Made(*service.create(session, tenant_id=tenant_id, name=name, expires_at=expires_at))


def rotate(session: Session, key_id: str, *, overlap_s: float = 0.0) -> Made:
    """A new key in place of one, which ends at once or after `overlap_s`.

    Raises:
        NotFoundError: there is no such key.
        InvalidInputError: it was revoked.
    """
    old = _found(session, key_id)
    if old.revoked_at is not None:
        raise InvalidInputError("key_revoked", f"The key {key_id} was revoked; add another.", param="key")
    key, token = service.create(session, tenant_id=old.tenant_id, name=old.name, expires_at=old.expires_at)
    if overlap_s > 0:
        ends_at = time.time() + overlap_s
        old.expires_at = min(old.expires_at or ends_at, ends_at)
    else:
        old.revoked_at = time.time()
    return Made(key, token)


def revoke(session: Session, key_id: str) -> ApiKey:
    """End a key of any tenant; a second time changes nothing.

    Raises:
        NotFoundError: there is no such key.
    """
    key = _found(session, key_id)
    return service.revoke(session, tenant_id=key.tenant_id, key_id=key_id)


def ensure_first(database: Database, data_dir: Path) -> tuple[Path, list[str]]:
    """The file that holds a working key of the first tenant, and what its operator must be told.

    Key and file are made where they are missing. Who removed the file wanted the key in it gone: it is revoked.
    """
    path = data_dir / service.KEY_FILE
    if (working := _working(database, path)) is not None:
        keep_first(data_dir, working)
        return path, []
    told = []
    with database.write() as session:
        former = repository.find(session, read_first_id(data_dir) or "")
        _, token = service.create(session, tenant_id=service.FIRST_TENANT, name="first key")
        if former is not None and former.revoked_at is None:
            former.revoked_at = time.time()
            told.append(f"{path} held no working key: the key {former.id}, which was in it, is revoked")
        others = repository.count_valid(session) - 1
    write_first(data_dir, token)
    told.append(f"a new key of the tenant {service.FIRST_TENANT} is in {path}")
    if others:
        told.append(f"{others} other key(s) go on working: difftune keys list")
    return path, told if len(told) > 1 else []


def _working(database: Database, path: Path) -> str | None:
    """Id of the key in the file, if it works."""
    try:
        with database.read() as session:
            return service.verify(session, path.read_text(encoding="ascii").strip()).id
    except (UnauthenticatedError, UnicodeDecodeError, FileNotFoundError):
        return None  # of an older database, revoked, or removed


def _found(session: Session, key_id: str) -> ApiKey:
    key = repository.find(session, key_id)
    if key is None:
        raise not_found("key", key_id)
    return key
