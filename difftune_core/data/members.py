"""What an archive may hold and how its names are judged, whatever its format."""

from __future__ import annotations

import io
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from difftune_core.data.columns import Column, Numbered, Texts

MAX_PATH_CHARS = 1024
MAX_NAME_BYTES = 255  # what common file systems take

_JUNK_FOLDERS = frozenset({"__MACOSX", ".git", ".ipynb_checkpoints", "@eaDir"})
_JUNK_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini", ".gitkeep", ".gitignore"})
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, lone surrogates, line separators
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Limits:
    """Most of an archive that is read. Sizes in bytes, as unpacked."""

    max_entries: int = 2_000_000
    max_file_bytes: int = 64 << 20
    max_total_bytes: int = 256 << 30
    max_ratio: int = 200
    """Unpacked over packed size, judged from 1 MiB unpacked on; deflate reaches 1,032."""


class RefusedError(Exception):
    """A file is not accepted: `code` for programs, the text for people."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code apart from the text."""
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that is not accepted, and why."""

    path: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Member:
    """A readable file: path with `/`, in NFC, without `.` parts, and its unpacked size."""

    path: str
    bytes: int
    shard: str = ""
    """The part of the path that names the tar file within the archive: no folder of the data set."""
    number: int = field(default=-1, compare=False)
    """The file's place in the archive."""

    @property
    def name(self) -> str:
        """The path within its shard, or the whole path."""
        return self.path.removeprefix(self.shard)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a format's reader found, not yet judged. `handle` is what it reads the entry by, below 2^48."""

    name: str
    bytes: int
    packed_bytes: int
    handle: int
    is_folder: bool = False
    problem: RefusedError | None = None
    shard: str = ""
    """Path of the tar file within the archive that holds the entry; empty for the archive's own."""


class Members(Column[Member]):
    """The readable files of an archive, in its own order: some 20 bytes each beside the path's."""

    def __init__(self) -> None:
        """Begin empty."""
        self._paths, self._sizes, self._handles, self._shards = Texts(), array("Q"), array("Q"), Numbered()
        self._known: set[int] | None = set()

    def add(self, path: str, entry: Entry) -> None:
        """Take a file in."""
        assert self._known is not None, "all were added"
        self._known.add(hash(path))
        self._paths.append(path)
        self._sizes.append(entry.bytes)
        self._handles.append(entry.handle)
        self._shards.append(entry.shard)

    def has(self, path: str) -> bool:
        """Return whether a file has this path; to be asked while files are added."""
        return self._known is not None and hash(path) in self._known

    def close(self) -> None:
        """Add no more files."""
        self._known = None

    @property
    def shards(self) -> Sequence[str]:
        """Paths of the tar files within the archive, `""` for the archive itself."""
        return self._shards.distinct

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self._sizes)

    def handle(self, member: Member) -> Entry:
        """Return what the reader opens a file by."""
        return Entry(member.path, member.bytes, member.bytes, self._handles[member.number], shard=member.shard)

    def __len__(self) -> int:
        """Number of files."""
        return len(self._sizes)

    def at(self, number: int) -> Member:
        """Make one of the files."""
        return Member(self._paths[number], self._sizes[number], self._shards[number], number)


@runtime_checkable  # the tests check arguments at run time
class Reader(Protocol):
    """What reads one packaging."""

    @property
    def seeks(self) -> bool:
        """Whether entries can be read in any order as cheaply as in their own."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Every entry, in the cheapest order to read them in."""
        ...

    def open(self, entry: Entry) -> io.BufferedIOBase:
        """The entry's bytes as a stream."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def display(name: str) -> str:
    """A name that can be shown and stored: what is no plain text is escaped."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c.encode("unicode_escape").decode() if _is_forbidden(c) else c for c in text)


def clean_path(name: str) -> str:
    """The path in NFC without `.` parts; backslashes separate folders as `/` does.

    Raises:
        RefusedError: `unsafe_path` for names that climb out, are absolute, too long or hold control characters.
    """
    if any(_is_forbidden(c) for c in name):
        raise RefusedError("unsafe_path", "the name holds control characters or is not valid text")
    name = name.replace("\\", "/")  # as Windows writes it
    if name.startswith("/") or name[1:2] == ":":
        raise RefusedError("unsafe_path", "the name is absolute")
    parts = [part for part in unicodedata.normalize("NFC", name).split("/") if part not in {"", "."}]
    if ".." in parts:
        raise RefusedError("unsafe_path", "the name climbs out of the archive (..)")
    path = "/".join(parts)
    if len(path) > MAX_PATH_CHARS or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise RefusedError("unsafe_path", f"the name is longer than {MAX_PATH_CHARS} characters or has too long a part")
    return path


def clean_name(text: str) -> str:
    """Return a class's name that a file's content gives, under the rules of folders' names: NFC, single spaces.

    Raises:
        RefusedError: `unsafe_name` for control characters and for what no folder could be called.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if any(_is_forbidden(c) for c in name):
        raise RefusedError("unsafe_name", "the class name holds control characters or is not valid text")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise RefusedError("unsafe_name", f"the class name is longer than {MAX_NAME_BYTES} bytes")
    return name


def is_junk(path: str) -> bool:
    """Return whether an operating system or tool left this file; it is ignored, and listed."""
    *folders, name = path.split("/")
    return name.lower() in _JUNK_FILES or name.startswith("._") or not _JUNK_FOLDERS.isdisjoint(folders)


def _is_forbidden(character: str) -> bool:
    return unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _BIDI_CONTROLS
