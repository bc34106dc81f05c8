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
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from difftune_core.data.members import Entry, Limits, RefusedError
from difftune_core.data.zip_names import names_of
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
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF  # in the end record: "see the zip64 record"
_ENCRYPTED = 0x1
_MAX_DIRECTORY_BYTES_PER_ENTRY = 4096


class ZipReader:
    """Entries in the order of their data."""

    seeks = True

    def __init__(self, path: Path, limits: Limits) -> None:
        """Read the central directory.

        Raises:
            TaskError: `damaged_archive`, `too_many_entries`.
        """
        try:
            with path.open("rb") as file:
                self._directory_at, count = _directory(file, limits)
            self._zip = zipfile.ZipFile(path)
        except BROKEN as error:
            raise TaskError("damaged_archive", f"the zip file is damaged: {error}", path.name) from error
        self._path = path
        try:
            self._check_count(count, limits)
        except TaskError:
            self.close()
            raise

    def entries(self) -> Iterator[Entry]:
        """Every entry, sorted by its place in the file."""
        infos = sorted(self._zip.infolist(), key=lambda info: info.header_offset)
        ends = [info.header_offset for info in infos[1:]] + [self._directory_at]
        with self._path.open("rb") as file:
            for info, name, end in zip(
                infos, names_of(infos), ends, strict=False
            ):  # an empty archive has an end and no entry
                problem = _problem(info) or _overrun(file, info, end)
                is_folder = name.endswith(("/", "\\"))
                yield Entry(name, info.file_size, info.compress_size, info, is_folder, problem)

    def open(self, entry: Entry) -> io.BufferedIOBase:
        """The unpacked bytes as a stream; any of `BROKEN` may be raised here and while reading."""
        return cast("io.BufferedIOBase", self._zip.open(entry.handle))

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _check_count(self, count: int, limits: Limits) -> None:
        found, name = len(self._zip.infolist()), self._path.name
        if max(found, count) > limits.max_entries:
            raise TaskError("too_many_entries", f"more than {limits.max_entries} entries", name)
        if found != count:
            raise TaskError("damaged_archive", f"the end record says {count} entries, there are {found}", name)


def _directory(file: io.BufferedIOBase, limits: Limits) -> tuple[int, int]:
    """Offset and number of entries of the central directory."""
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
    return offset, count


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
