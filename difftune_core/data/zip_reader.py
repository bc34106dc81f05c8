"""Entries of a zip file, with the checks that Python's `zipfile` leaves out.

The central directory is what is read; it must end exactly where the end record begins, the end record must be the last
thing in the file, and no entry may reach into the next (Fifield, "A better zip bomb", WOOT 2019).
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np

from difftune_core.data.members import Entry, Limits, RefusedError
from difftune_core.data.zip_names import encoding_of, name_of, unsaid_name
from difftune_core.hooks import TaskError

BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    struct.error,
    NotImplementedError,
    ValueError,
)

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s24x3H")  # up to the lengths of name, extra field and comment
_CENTRAL_BYTES = 46  # of an entry before its name
_AT_ONCE = 1000
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF  # in the end record: "see the zip64 record"
_ENCRYPTED = 0x1
_MAX_DIRECTORY_BYTES_PER_ENTRY = 4096


class ZipReader:
    """Entries in the order of their data. Of each the place in the central directory is kept, and nothing else.

    `zipfile` reads the directory, some entries at a time: of a whole one it would keep most of a kilobyte an entry.
    """

    seeks = True

    def __init__(self, path: Path, limits: Limits) -> None:
        """Find the entries of the central directory.

        Raises:
            TaskError: `damaged_archive`, `too_many_entries`.
        """
        self._path, self._file = path, path.open("rb")
        try:
            self._places, count = self._found(limits)
            self._check_count(count, limits)
        except BROKEN as error:
            self.close()
            raise TaskError("damaged_archive", f"the zip file is damaged: {error}", path.name) from error
        except TaskError:
            self.close()
            raise

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, sorted by its place in the file."""
        try:
            offsets, encoding = self._looked_through()
        except BROKEN as error:
            raise TaskError("damaged_archive", f"the zip file is damaged: {error}", self._path.name) from error
        order = np.argsort(offsets, kind="stable")
        ends = np.append(offsets[order[1:]], self._directory_at)
        for start in range(0, len(order), _AT_ONCE):
            places = [self._places[number] for number in order[start : start + _AT_ONCE].tolist()]
            with self._listing(places) as listing:
                of_each = zip(places, listing.infolist(), ends[start : start + _AT_ONCE].tolist(), strict=True)
                for place, info, end in of_each:
                    problem = _problem(info) or _overrun(self._file, info, end)
                    name = name_of(info, encoding)
                    is_folder = name.endswith(("/", "\\"))
                    yield Entry(name, info.file_size, info.compress_size, place, is_folder, problem)

    def open(self, entry: Entry) -> io.BufferedIOBase:
        """The unpacked bytes as a stream; any of `BROKEN` may be raised here and while reading."""
        with self._listing([entry.handle]) as listing:
            return cast("io.BufferedIOBase", listing.open(listing.infolist()[0]))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _found(self, limits: Limits) -> tuple[array[int], int]:
        """Find where each entry of the directory begins, and how many the end record says."""
        self._directory_at, count, end = _directory(self._file, limits)
        places, at = array("Q"), self._directory_at
        while at < end:
            header = _pread(self._file, at, _CENTRAL.size)
            signature, *_, name, extra, comment = _CENTRAL.unpack(header)
            if signature != b"PK\x01\x02":
                raise zipfile.BadZipFile("Bad magic number for central directory")
            places.append(at)
            if len(places) > limits.max_entries:
                raise TaskError("too_many_entries", f"more than {limits.max_entries} entries", self._path.name)
            at += _CENTRAL_BYTES + name + extra + comment
        if at != end:
            raise zipfile.BadZipFile("its central directory is cut")
        return places, count

    def _looked_through(self) -> tuple[np.ndarray, str]:
        """Return where each entry's data begins, and the encoding of the names that do not say theirs."""
        offsets, unsaid = array("q"), []
        for start in range(0, len(self._places), _AT_ONCE):
            with self._listing(self._places[start : start + _AT_ONCE]) as listing:
                for info in listing.infolist():
                    offsets.append(min(info.header_offset, self._directory_at))
                    if (raw := unsaid_name(info)) is not None and not raw.isascii():
                        unsaid.append(raw)
        return np.array(offsets, np.int64), encoding_of(unsaid)

    def _listing(self, places: Sequence[int]) -> zipfile.ZipFile:
        """The zip file, as if its directory had these entries alone."""
        entries = b"".join(self._central(place) for place in places)
        return zipfile.ZipFile(cast("IO[bytes]", _Abridged(self._file, self._directory_at, entries, len(places))))

    def _central(self, place: int) -> bytes:
        *_, name, extra, comment = _CENTRAL.unpack(_pread(self._file, place, _CENTRAL.size))
        return _pread(self._file, place, _CENTRAL_BYTES + name + extra + comment)

    def _check_count(self, count: int, limits: Limits) -> None:
        found, name = len(self._places), self._path.name
        if max(found, count) > limits.max_entries:
            raise TaskError("too_many_entries", f"more than {limits.max_entries} entries", name)
        if found != count:
            raise TaskError("damaged_archive", f"the end record says {count} entries, there are {found}", name)


class _Abridged(io.RawIOBase):
    """A zip file up to its directory, followed by a directory of some of its entries."""

    def __init__(self, file: io.BufferedIOBase, directory_at: int, entries: bytes, count: int) -> None:
        super().__init__()
        self._file, self._directory_at, self._at = file, directory_at, 0
        end = directory_at + len(entries)
        record = (b"PK\x06\x06", _END64.size - 12, 45, 45, 0, 0, count, count, len(entries), directory_at)
        closing = _END64.pack(*record) + _END64_LOCATOR.pack(b"PK\x06\x07", 0, end, 1)
        self._tail = entries + closing + _END.pack(b"PK\x05\x06", 0, 0, _MAX_16, _MAX_16, _MAX_32, _MAX_32, 0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = (0, self._at, self._directory_at + len(self._tail))[whence]
        if start + offset < 0:
            raise OSError("before the beginning of the file")
        self._at = start + offset
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        rest = max(0, self._directory_at + len(self._tail) - self._at)
        size = rest if size < 0 else min(size, rest)
        if self._at < self._directory_at:
            self._file.seek(self._at)
            found = self._file.read(min(size, self._directory_at - self._at))
        else:
            found = self._tail[self._at - self._directory_at :][:size]
        self._at += len(found)
        return found


def _pread(file: io.BufferedIOBase, at: int, count: int) -> bytes:
    file.seek(at)
    found = file.read(count)
    if len(found) < count:
        raise EOFError("its central directory is cut")
    return found


def _directory(file: io.BufferedIOBase, limits: Limits) -> tuple[int, int, int]:
    """Offset and number of entries of the central directory, and its end."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _END.size - _MAX_16)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise zipfile.BadZipFile("it has no end record; was the upload cut?")
    _, _, _, _, count, length, offset, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise zipfile.BadZipFile("there is data after its end record")
    end = start + at
    if count == _MAX_16 or _MAX_32 in {length, offset}:
        end, count, length, offset = _directory64(file, end)
    if offset + length != end:
        raise zipfile.BadZipFile("its central directory is not where the end record says")
    if length > limits.max_entries * _MAX_DIRECTORY_BYTES_PER_ENTRY:
        raise zipfile.BadZipFile("its central directory is too large")
    return offset, count, end


def _directory64(file: io.BufferedIOBase, end: int) -> tuple[int, int, int, int]:
    """Place of the zip64 end record, and number, length and offset of the central directory."""
    file.seek(max(0, end - _END64_LOCATOR.size))
    signature, _, at, _ = _END64_LOCATOR.unpack(file.read(_END64_LOCATOR.size))
    if signature != b"PK\x06\x07" or at + _END64.size > end:
        raise zipfile.BadZipFile("its zip64 locator is wrong")
    file.seek(at)
    signature, *_, count, length, offset = _END64.unpack(file.read(_END64.size))
    if signature != b"PK\x06\x06":
        raise zipfile.BadZipFile("its zip64 end record is missing")
    return at, count, length, offset


def _problem(info: zipfile.ZipInfo) -> RefusedError | None:
    mode = info.external_attr >> 16
    if info.flag_bits & _ENCRYPTED:
        return RefusedError("encrypted_file", "the entry is encrypted")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return RefusedError("not_a_regular_file", "the entry is a link or device, not a file")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return RefusedError("unsupported_compression", "entries are stored or deflated; this one is packed otherwise")
    return None


def _overrun(file: io.BufferedIOBase, info: zipfile.ZipInfo, end: int) -> RefusedError | None:
    """Refuse an entry whose data, by its local header, reaches beyond `end`."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        return RefusedError("damaged_file", "the entry has no local header")
    *_, name, extra = _LOCAL.unpack(header)
    if info.header_offset + _LOCAL.size + name + extra + info.compress_size > end:
        return RefusedError("overlapping_entries", "the entry's data overlaps another entry")
    return None
