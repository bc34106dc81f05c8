"""Signed links of a local store: who holds one may do one thing with one object for a while."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

REQUIRED = ("method", "expires", "signature")
PARAMETERS = (*REQUIRED, "filename", "type", "bytes", "inline")
"""Parameters of a link's query; the first three are in every link."""
_SECRET_BYTES = 32


class BadLinkError(Exception):
    """The link was changed or has expired; `code` says which."""

    def __init__(self, code: str, message: str) -> None:
        """`code` is `link_invalid` or `link_expired`."""
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Link:
    """What a link allows. `expires` is in Unix seconds; `num_bytes` bounds a PUT."""

    method: str
    key: str
    expires: int
    filename: str = ""
    content_type: str = ""
    num_bytes: int = 0
    inline: bool = False
    """Whether a browser shows it instead of saving it."""

    def signature(self, secret: bytes) -> str:
        """HMAC-SHA256 over all fields, hex."""
        fields = [self.method, self.key, self.expires, self.filename, self.content_type, self.num_bytes]
        fields += ["inline"] if self.inline else []
        return hmac.new(secret, json.dumps(fields).encode(), hashlib.sha256).hexdigest()

    def url(self, base_url: str, secret: bytes) -> str:
        """The link as clients get it."""
        query = {"method": self.method, "expires": self.expires}
        extra = {"filename": self.filename, "type": self.content_type, "bytes": self.num_bytes or ""}
        extra |= {"inline": "true" if self.inline else ""}
        query |= {name: value for name, value in extra.items() if value}
        query |= {"signature": self.signature(secret)}
        return f"{base_url.rstrip('/')}/v1/objects/{quote(self.key)}?{urlencode(query)}"


def verified(secret: bytes, *, method: str, key: str, query: Mapping[str, str]) -> Link:
    """The link behind a request.

    Raises:
        BadLinkError: the signature is not ours, the link is for another method, or its time is over.
    """
    try:
        link = Link(
            method=query["method"],
            key=key,
            expires=_whole_number(query["expires"]),
            filename=query.get("filename", ""),
            content_type=query.get("type", ""),
            num_bytes=_whole_number(query.get("bytes", "0")),
            inline=query.get("inline") == "true",
        )
        given = query["signature"]
    except (KeyError, ValueError):
        raise BadLinkError("link_invalid", "the link is incomplete") from None
    if not hmac.compare_digest(given.encode(), link.signature(secret).encode()):
        raise BadLinkError("link_invalid", "the link's signature does not match")
    if method != link.method and (method, link.method) != ("HEAD", "GET"):
        raise BadLinkError("link_invalid", f"the link is for {link.method} only")
    if time.time() > link.expires:
        raise BadLinkError("link_expired", "the link has expired; ask for a new one")
    return link


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):  # Python takes `+5`, ` 5` and `5_0` too
        raise ValueError
    return int(text)


def signing_secret(data_dir: Path, name: str = "link-signing.key") -> bytes:
    """The folder's own secret, made at first use; of processes that race, one wins and all read its secret."""
    path = data_dir / "secrets" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(aside)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    return path.read_bytes()
