from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from api.storage.base import CHUNK_BYTES, ObjectInfo, StoreError, checked_key
from api.storage.links import Link
from difftune_core.files import sha256_file

_LINK_TRIES = 5
_INCOMING = ".incoming"
_PROBE_BYTES = 1 << 16


class LocalStore:
    """Objects as files of a folder; links are served by the API (`/v1/objects/...`)."""

    def __init__(self, root: Path, secret: bytes, base_url: str) -> None:
        """`root` is made; `secret` signs links; `base_url` is the API's address as clients see it."""
        self.root = root
        self.secret = secret
        self.base_url = base_url
        (root / _INCOMING).mkdir(parents=True, exist_ok=True)

    def put_file(self, key: str, path: Path, *, content_type: str, sha256: str | None = None) -> ObjectInfo:
        """Do as `ObjectStore.put_file`; the content type goes into each link instead."""
        del content_type, sha256  # hashed while it is copied
        return self.put_stream(key, _file_chunks(path, 0, None))

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> ObjectInfo:
        """Write aside, fsync, give it its name, fsync the folder."""
        target = self._path(key)
        aside = self.root / _INCOMING / secrets.token_hex(16)
        digest, size = hashlib.sha256(), 0
        try:
            with aside.open("xb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            try:
                _link(aside, target)
            except FileExistsError:
                if sha256_file(target) != digest.hexdigest():
                    raise FileExistsError(key) from None
        finally:
            aside.unlink(missing_ok=True)
        return ObjectInfo(key, size, digest.hexdigest(), _etag(target))

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Do as `ObjectStore.read`."""
        return _file_chunks(self._path(key), start, end)

    def stat(self, key: str) -> ObjectInfo:
        """Do as `ObjectStore.stat`."""
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(key)
        found = path.stat()
        return ObjectInfo(key, found.st_size, etag=_etag(path), modified=found.st_mtime)

    def delete(self, key: str) -> None:
        """Do as `ObjectStore.delete`; folders left empty go too."""
        path = self._path(key)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # the first that is not empty
            for folder in takewhile(self.root.__ne__, path.parents):
                folder.rmdir()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Do as `ObjectStore.list`."""
        folder = self.root / prefix.rpartition("/")[0]
        if ".." in prefix or not folder.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"not a prefix of object keys: {prefix!r}")
        files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)  # passes over what goes
        found = (path.relative_to(self.root) for path in files if path.is_file())
        for key in sorted(path.as_posix() for path in found if path.parts[0] != _INCOMING):
            if key.startswith(prefix):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    yield self.stat(key)

    def url_get(self, key: str, *, filename: str, content_type: str, expires_s: float, inline: bool = False) -> str:
        """Do as `ObjectStore.url_get`."""
        link = Link("GET", checked_key(key), int(time.time() + expires_s), filename, content_type, inline=inline)
        return link.url(self.base_url, self.secret)

    def url_put(self, key: str, *, num_bytes: int, expires_s: float) -> str:
        """Do as `ObjectStore.url_put`."""
        link = Link("PUT", checked_key(key), int(time.time() + expires_s), num_bytes=num_bytes)
        return link.url(self.base_url, self.secret)

    def forget_unfinished(self, older_than_s: float) -> int:
        """Do as `ObjectStore.forget_unfinished`."""
        forgotten = 0
        for path in (self.root / _INCOMING).iterdir():
            with suppress(FileNotFoundError):  # it has become an object
                if time.time() - path.stat().st_mtime > older_than_s:
                    path.unlink()
                    forgotten += 1
        return forgotten

    def check(self) -> None:
        """Do as `ObjectStore.check`; a disk without room is found by writing to it."""
        probe = self.root / _INCOMING / secrets.token_hex(16)
        try:
            with probe.open("xb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"the object folder {self.root} cannot be written: {error.strerror}") from error
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)


def _file_chunks(path: Path, start: int, end: int | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        left = (os.fstat(file.fileno()).st_size if end is None else end) - start
        while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk


def _link(aside: Path, target: Path) -> None:
    """A second name, which unlike a rename never replaces an object.

    A delete may take an empty folder away between making and using it: then make it again.
    """
    for attempt in range(_LINK_TRIES):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(aside)
        except FileNotFoundError:
            if attempt == _LINK_TRIES - 1:
                raise
        else:
            break
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _etag(path: Path) -> str:
    found = path.stat()
    return f"{found.st_mtime_ns:x}-{found.st_size:x}"
