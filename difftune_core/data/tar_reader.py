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
from typing import IO, cast

from difftune_core.data.members import Entry, Limits, RefusedError
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
        raise TaskError("archive_too_large", f"its headers reach beyond {self._end} bytes")


def is_tar(path: Path) -> bool:
    """Whether the file begins with a tar header, plain or within gzip."""
    with _stream(path) as file:
        return begins_as_tar(file)


def begins_as_tar(stream: io.BufferedIOBase) -> bool:
    """Whether the stream begins with a tar header."""
    try:
        tarfile.TarInfo.frombuf(stream.read(_BLOCK), "utf-8", "surrogateescape")
    except BROKEN:
        return False
    return True


class TarReader:
    """Entries in the order of the archive; reading in that order unpacks a gzipped one only once more."""

    def __init__(self, stream: io.BufferedIOBase, end: int, limits: Limits, name: str, *, is_packed: bool) -> None:
        """Begin to read; listing and reading files happen later.

        Args:
            stream: the tar file, seekable; closed with this reader.
            end: bytes that are read of it at most.
            limits: what is read at most of one file, and how many.
            name: names the file to people.
            is_packed: whether `stream` is unpacked as it is read, so that nobody knows its end.
        """
        self._name, self._limits = name, limits
        self._stream = stream
        max_read = max(limits.max_file_bytes, _CHUNK)
        self._bounded = _Bounded(stream, end=end + 2 * _BLOCK, max_read=max_read, is_packed=is_packed)
        try:
            self._tar = tarfile.open(fileobj=cast("IO[bytes]", self._bounded), mode="r:")  # noqa: SIM115  closed in close()
        except TaskError:
            self._stream.close()
            raise
        except BROKEN as error:
            self._stream.close()
            raise self._damaged(str(error)) from error

    @classmethod
    def of_file(cls, path: Path, limits: Limits) -> TarReader:
        """The reader of a file on disk, plain or gzipped."""
        packed, is_packed = path.stat().st_size, _is_gzip(path)
        end = packed if not is_packed else min(limits.max_total_bytes, int(packed * limits.max_ratio) + _CHUNK)
        return cls(_stream(path), end, limits, path.name, is_packed=is_packed)

    def entries(self) -> Iterator[Entry]:
        """Every entry.

        Raises:
            TaskError: `damaged_archive`, `too_many_entries`.
        """
        count, before = 0, -1
        try:
            while (info := self._tar.next()) is not None:
                count += 1
                if count > self._limits.max_entries:
                    raise TaskError("too_many_entries", f"more than {self._limits.max_entries} entries", self._name)
                if info.size < 0 or info.offset <= before:
                    raise self._damaged("a header points backwards")
                before = info.offset
                yield Entry(info.name, info.size, info.size, info, info.isdir(), _problem(info))
            self._check_end()
        except BROKEN as error:
            raise self._damaged(str(error)) from error

    def open(self, entry: Entry) -> io.BufferedIOBase:
        """The bytes as a stream; any of `BROKEN` may be raised here and while reading."""
        file = self._tar.extractfile(entry.handle)
        if file is None:
            raise tarfile.ReadError("not a regular file")
        return cast("io.BufferedIOBase", file)

    def close(self) -> None:
        """Close the file."""
        self._tar.close()
        self._stream.close()

    def _check_end(self) -> None:
        """Nothing but zeros may follow the last entry: `tarfile` stops silently at a header that it cannot read."""
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


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _stream(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if _is_gzip(path) else path.open("rb")


def _problem(info: tarfile.TarInfo) -> RefusedError | None:
    if info.isdir():
        return None
    if not info.isreg() or info.issparse():
        return RefusedError("not_a_regular_file", "the entry is a link, device or sparse file, not a plain file")
    return None
