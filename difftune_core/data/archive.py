"""Reading the files of an archive or folder without ever unpacking by name.

A name in an archive is data: it is judged, kept and shown, and never becomes a path on disk. Declared sizes are checked
against the limits before anything is read and enforced while reading, so that a header that lies is a damaged file.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from difftune_core.data import tar_reader, zip_reader
from difftune_core.data.columns import Texts
from difftune_core.data.members import (
    Entry,
    Limits,
    Member,
    Members,
    Reader,
    Refusal,
    RefusedError,
    clean_path,
    display,
    is_junk,
)
from difftune_core.data.shards import ShardReader
from difftune_core.hooks import TaskError

__all__ = ["Archive", "Limits", "Member", "Refusal", "RefusedError", "open_archive"]

_BROKEN = (*zip_reader.BROKEN, *tar_reader.BROKEN)
_RATIO_FROM_BYTES = 1 << 20
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_ARCHIVE_MAGICS = (
    *_ZIP_MAGICS,
    b"\x1f\x8b",  # gzip
    b"BZh",
    b"\xfd7zXZ\0",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd",  # Zstandard
)


class Archive:
    """The judged contents: `members` may be read; `refused` says what may not, and why; `junk` is what systems leave.

    Folders and tar files that were opened are no entries, unless their name is refused:
    `entries = len(members) + len(refused) + len(junk)`.
    """

    def __init__(self, name: str, reader: Reader, limits: Limits) -> None:
        """List and judge every entry.

        Raises:
            TaskError: `damaged_archive`, `too_many_entries`, `archive_too_large`.
        """
        self.name = name
        self.members = Members()
        self.refused: list[Refusal] = []
        self.junk: list[Refusal] = []
        self.folders: list[str] = []
        """The folders that have an entry of their own: in a zip or tar perhaps none."""
        self._reader, self._limits = reader, limits
        for entry in reader.entries():
            self._file(entry)
        self.members.close()
        if self.members.total_bytes > limits.max_total_bytes:
            raise TaskError("archive_too_large", f"it unpacks to more than {limits.max_total_bytes} bytes", name)

    def __iter__(self) -> Iterator[Member]:
        """Readable files in the archive's own order, the cheapest to read them in."""
        return iter(self.members)

    def __enter__(self) -> Archive:  # noqa: PYI034  beartype knows no Self outside a decorated class
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    @property
    def seeks(self) -> bool:
        """Whether files can be read in any order as cheaply as in the archive's own."""
        return self._reader.seeks

    @property
    def entries(self) -> int:
        """Files in the archive, whatever became of them."""
        return len(self.members) + len(self.refused) + len(self.junk)

    def read(self, member: Member) -> bytes:
        """The whole file.

        Raises:
            RefusedError: `damaged_file`, `empty_file`, or `nested_archive` when the content is an archive itself.
        """
        try:
            with self._reader.open(self.members.handle(member)) as file:
                data = file.read(member.bytes + 1)
        except _BROKEN as error:
            raise RefusedError("damaged_file", f"the file cannot be unpacked: {error}") from error
        if len(data) != member.bytes:
            raise RefusedError("damaged_file", f"the file unpacks to another size than declared ({member.bytes} bytes)")
        if not data:
            raise RefusedError("empty_file", "the file is empty (0 bytes)")
        if data.startswith(_ARCHIVE_MAGICS) or data[257:262] == b"ustar":
            raise RefusedError("nested_archive", "the file is an archive itself; archives in archives are not opened")
        return data

    def _file(self, entry: Entry) -> None:
        try:
            path = clean_path(entry.name)
            if entry.problem:
                raise entry.problem
            if entry.is_folder:
                self.folders.append(path)
                return
            if is_junk(path):
                self.junk.append(Refusal(path, "system_file", "an operating system or a tool left it"))
                return
            self._judge(path, entry)
        except RefusedError as refused:
            self.refused.append(Refusal(display(entry.name), refused.code, str(refused)))
            return
        self.members.add(path, entry)

    def _judge(self, path: str, entry: Entry) -> None:
        if not path:
            raise RefusedError("unsafe_path", "the name is empty")
        if self.members.has(path):
            raise RefusedError("duplicate_name", "another file has this name (in another Unicode form, perhaps)")
        if entry.bytes > self._limits.max_file_bytes:
            raise RefusedError("file_too_large", f"{entry.bytes} bytes; at most {self._limits.max_file_bytes}")
        if entry.bytes > max(_RATIO_FROM_BYTES, entry.packed_bytes * self._limits.max_ratio):
            raise RefusedError("compression_ratio", f"it unpacks to over {self._limits.max_ratio} times its size")


class _FolderReader:
    """A folder on disk; links are not followed."""

    seeks = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths = Texts()

    def entries(self) -> Iterator[Entry]:
        for folder, folders, names in os.walk(self._root, followlinks=False):
            folders.sort()
            relative = Path(folder).relative_to(self._root).as_posix()
            if relative != ".":
                yield Entry(relative, 0, 0, 0, is_folder=True)
            for name in sorted([*names, *(f for f in folders if Path(folder, f).is_symlink())]):
                path = Path(folder, name)
                status = path.lstat()
                linked = (
                    None if stat.S_ISREG(status.st_mode) else RefusedError("not_a_regular_file", "not a plain file")
                )
                name_here = path.relative_to(self._root).as_posix()
                self._paths.append(name_here)
                yield Entry(name_here, status.st_size, status.st_size, len(self._paths) - 1, problem=linked)

    def open(self, entry: Entry) -> io.BufferedIOBase:
        return os.fdopen(os.open(self._root / self._paths[entry.handle], os.O_RDONLY | os.O_NOFOLLOW), "rb")

    def close(self) -> None:
        pass


def open_archive(path: Path, limits: Limits | None = None) -> Archive:
    """A zip, tar or tar.gz file, recognised by its content, or a plain folder; tar files in it are opened too.

    Raises:
        TaskError: `not_an_archive`, `damaged_archive`, `too_many_entries`, `archive_too_large`.
    """
    limits = limits or Limits()
    most = tar_reader.most_unpacked(path.stat().st_size, limits) if path.is_file() else limits.max_total_bytes
    reader = ShardReader(_reader(path, limits), limits, path.name, most)
    try:
        return Archive(path.name, reader, limits)
    except BaseException:
        reader.close()
        raise


def _reader(path: Path, limits: Limits) -> Reader:
    if path.is_dir():
        return _FolderReader(path)
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_ZIP_MAGICS):
        return zip_reader.ZipReader(path, limits)
    if tar_reader.is_tar(path):
        return tar_reader.TarReader.of_file(path, limits)
    raise TaskError("not_an_archive", "this is no zip, tar or tar.gz file, judged by its content", path.name)
