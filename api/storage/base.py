"""What a store must do. Objects are immutable by agreement: their keys contain ids and are never written twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import quote

CHUNK_BYTES = 1 << 20
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._=-]{0,127}){0,15}")
_MAX_KEY = 512


@dataclass(frozen=True)
class ObjectInfo:
    """An object in the store."""

    key: str
    bytes: int
    sha256: str | None = None
    """Hex; None where the store was not told."""
    etag: str | None = None
    modified: float | None = None
    """When the object was stored, in Unix seconds of the store's clock; None where that was not asked."""


@dataclass(frozen=True)
class StoredFile:
    """A file that lies whole in the store, as rows name it: of a checkpoint, a report, an export, a retention set."""

    key: str
    filename: str
    bytes: int
    sha256: str
    content_type: str = "application/octet-stream"

    def called(self, filename: str) -> Self:
        """Return the same file under another name for who downloads it."""
        return replace(self, filename=filename)

    def owned(self, name: str, owner_id: str) -> Self:
        """Return the same file under a name that tells it from others of its kind.

        Args:
            name: what people call the owner: its suffix, or the model.
            owner_id: the owner's id.
        """
        return self.called(f"{name}-{owner_id}-{self.filename}")


class StoreError(OSError):
    """The store did not answer, or refused."""


class ObjectChangedError(StoreError):
    """The object is not what it was when it was asked for."""


class ObjectStore(Protocol):
    """Keys are paths of plain names (`datasets/ds_1/report.json`).

    Every method raises `FileNotFoundError` for a missing object, `ValueError` for a key that is none, and
    `StoreError` when the store does not answer.
    """

    def put_file(self, key: str, path: Path, *, content_type: str, sha256: str | None = None) -> ObjectInfo:
        """Store a local file; the object appears whole or not at all.

        Done again with the same bytes it is no error. Where the `sha256` is known the file is read once: a store that
        copies it tells the digest of what it read, one that sends it that which is known.

        Raises:
            FileExistsError: the key has other bytes. Not every store can tell: see `S3Store.conditional`.
        """
        ...

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> ObjectInfo:
        """Store chunks as they come, as `put_file` does, with their sha256; when `chunks` raises, nothing is stored."""
        ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes `[start, end)` in chunks of at most 1 MiB; errors come with the first chunk."""
        ...

    def stat(self, key: str) -> ObjectInfo:
        """Size and what else is known."""
        ...

    def delete(self, key: str) -> None:
        """Remove; a missing object is no error."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose key begins with `prefix`, in order of key."""
        ...

    def url_get(self, key: str, *, filename: str, content_type: str, expires_s: float, inline: bool = False) -> str:
        """A link for clients: this object, GET only, saved as `filename`, or where `inline` shown by browsers."""
        ...

    def url_put(self, key: str, *, num_bytes: int, expires_s: float) -> str:
        """A link for clients: one PUT of exactly `num_bytes`."""
        ...

    def forget_unfinished(self, older_than_s: float) -> int:
        """Remove what writes left that were killed half-way and did not go on for that long; how many there were."""
        ...

    def check(self) -> None:
        """Ask the store whether it is there.

        Raises:
            StoreError: it is not.
        """
        ...


def checked_key(key: str) -> str:
    """The key itself.

    Raises:
        ValueError: it could leave the store's folder, or is no key.
    """
    if len(key) > _MAX_KEY or not _KEY.fullmatch(key):
        raise ValueError(f"not an object key: {key!r}")
    return key


def disposition(filename: str, *, inline: bool = False) -> str:
    """A Content-Disposition that always downloads, or lets browsers show it; RFC 5987 for what is not plain ASCII."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", filename) or "download"
    return f"{'inline' if inline else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
