"""Entries of a tar file, plain or gzipped, with bounds on what its headers can make us read."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from difftune_core.data.members import Entry, Limits, RefusedError, display
from difftune_core.hooks import TaskError

BROKEN = (tarfile.TarError, zlib.error, EOFError, OSError, struct.error, ValueError, ArithmeticError, RecursionError)

_OF_CUT_FILES = ("unexpected end of data", "ended before the end-of-stream")  # of tarfile and gzip
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


class _Bounded(io.RawIOBase):
    """A seekable file that refuses to go, or to read at once, beyond its bounds: no header can make us unpack more."""

    def __init__(self, file: io.BufferedIOBase, *, end: int, max_read: int, is_packed: bool) -> None:
        super().__init__()
        self._file, self._end, self._max_read, self._is_packed = file, end, max_read, is_packed

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= self._max_read:
            raise tarfile.ReadError(f"a header asks for {size} bytes at once")
        self._check(self._file.tell())
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence != os.SEEK_SET or offset < 0:
            raise tarfile.ReadError("a header points outside the archive")
        self._check(offset)
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _check(self, position: int) -> None:
        if position <= self._end:
            return
        if not self._is_packed:  # its size is known, so a header that goes beyond it is wrong, or the rest is missing
            raise tarfile.ReadError("a header points beyond its end; was the upload cut?")
        raise TaskError("archive_too_large", f"at most {self._end} bytes are unpacked of an archive of this size")


def is_tar(path: Path) -> bool:
    """Return whether the file begins with a tar header, plain or within gzip."""
    with path.open("rb") as file:
        return begins_as_tar(file)


def begins_as_tar(file: io.BufferedIOBase) -> bool:
    """Return whether the stream begins with a tar header, plain or within gzip."""
    try:
        stream, _ = unpacked(file)
        tarfile.TarInfo.frombuf(stream.read(_BLOCK), "utf-8", "surrogateescape")
    except BROKEN:
        return False
    return True


def unpacked(file: io.BufferedIOBase) -> tuple[io.BufferedIOBase, bool]:
    """(the file as a tar reader takes it, whether it is unpacked as it is read); `file` stands at its beginning."""
    is_packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    return (gzip.GzipFile(fileobj=file), True) if is_packed else (file, False)


class TarReader:
    """Entries in the order of the archive; reading in that order unpacks a gzipped one only once more."""

    def __init__(self, file: io.BufferedIOBase, size: int, limits: Limits, name: str, *, most: int) -> None:
        """Begin to read; listing and reading files happen later.

        Args:
            file: the tar file, plain or gzipped, seekable and at its beginning; closed with this reader.
            size: its bytes.
            limits: what is read at most of one file, and how many.
            name: names the file to people.
            most: bytes that are unpacked of it at most where it is gzipped.

        Raises:
            TaskError: `damaged_archive`, `archive_too_large`.
        """
        self._name, self._limits, self._file = name, limits, file
        try:
            self._stream, self._is_packed = unpacked(file)
            end = most if self._is_packed else size
            max_read = max(limits.max_file_bytes, _CHUNK)
            self._bounded = _Bounded(self._stream, end=end + 2 * _BLOCK, max_read=max_read, is_packed=self._is_packed)
            self._tar = tarfile.open(fileobj=cast("IO[bytes]", self._bounded), mode="r:")  # noqa: SIM115  closed in close()
        except TaskError:
            file.close()
            raise
        except BROKEN as error:
            file.close()
            raise self._damaged(str(error)) from error

    @property
    def seeks(self) -> bool:
        """Whether going back costs nothing: what is gzipped is unpacked from its beginning again."""
        return not self._is_packed

    @classmethod
    def of_file(cls, path: Path, limits: Limits) -> TarReader:
        """The reader of a file on disk, plain or gzipped."""
        size = path.stat().st_size
        return cls(path.open("rb"), size, limits, path.name, most=most_unpacked(size, limits))

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that were unpacked so far; none of a plain tar file."""
        return self._stream.tell() if self._is_packed else 0

    def entries(self) -> Iterator[Entry]:
        """Yield every entry.

        Raises:
            TaskError: `damaged_archive`, `too_many_entries`.
        """
        count, before, info = 0, -1, None
        try:
            while (info := self._next(info)) is not None:
                count += 1
                if count > self._limits.max_entries:
                    raise TaskError("too_many_entries", f"more than {self._limits.max_entries} entries", self._name)
                if info.size < 0 or info.offset <= before:
                    raise self._damaged("a header points backwards")
                before = info.offset
                yield Entry(info.name, info.size, info.size, info.offset_data, info.isdir(), _problem(info))
            self._check_end()
        except BROKEN as error:
            raise self._damaged(str(error)) from error

    def open(self, entry: Entry) -> io.BufferedIOBase:
        """The bytes as a stream; any of `BROKEN` may be raised here and while reading."""
        info = tarfile.TarInfo(entry.name)
        info.offset_data, info.size = entry.handle, entry.bytes
        file = self._tar.extractfile(info)
        if file is None:
            raise tarfile.ReadError("not a regular file")
        return cast("io.BufferedIOBase", file)

    def close(self) -> None:
        """Close the file."""
        self._tar.close()
        self._file.close()

    def _next(self, last: tarfile.TarInfo | None) -> tarfile.TarInfo | None:
        """The entry after `last`, over whose content it is reached."""
        cast("Any", self._tar).members = []  # which it would keep all of
        try:
            return self._tar.next()
        except TaskError as error:
            if last is None or error.code != "archive_too_large":
                raise
            name = display(last.name)
            message = f"{name} unpacks to {last.size} bytes, where {error}"
            raise TaskError(error.code, message, name) from None

    def _check_end(self) -> None:
        """Refuse anything but zeros after the last entry: `tarfile` stops silently at a header that it cannot read."""
        stream = self._bounded
        stream.seek(self._tar.offset)
        rest = stream.read(_BLOCK)
        if len(rest) < _BLOCK:
            raise self._damaged("it has no end mark; was the upload cut?")
        while rest:
            if rest.strip(b"\0"):
                raise self._damaged("there is data after its end, or a header that cannot be read")
            rest = stream.read(_CHUNK)

    def _damaged(self, why: str) -> TaskError:
        if any(words in why for words in _OF_CUT_FILES):
            why += "; was the upload cut?"
        return TaskError("damaged_archive", f"the tar file is damaged: {why}", self._name)


def most_unpacked(packed: int, limits: Limits) -> int:
    """Bytes that are unpacked at most of so many."""
    return min(limits.max_total_bytes, packed * limits.max_ratio + _CHUNK)


def _problem(info: tarfile.TarInfo) -> RefusedError | None:
    if info.isdir():
        return None
    if not info.isreg() or info.issparse():
        return RefusedError("not_a_regular_file", "the entry is a link, device or sparse file, not a plain file")
    return None
