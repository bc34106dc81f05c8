"""Judging the files of a data set: what becomes of every entry of its archive.

How files say what an image is, by their folders or by captions, is a `Form`; all else is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, runtime_checkable

from difftune_core.data.columns import DigestsByName
from difftune_core.data.findings import Finding
from difftune_core.data.formats import ending_of, has_picture_name
from difftune_core.data.items import Item_co, ItemT
from difftune_core.data.layout import View
from difftune_core.data.members import Member, Refusal, RefusedError
from difftune_core.data.previews import Previews
from difftune_core.data.tables import TABLE_NAMES
from difftune_core.hooks import TaskError

_ARCHIVE_ENDINGS = frozenset({"zip", "tar", "tgz", "gz", "bz2", "xz", "zst", "7z", "rar"})
_UNREAD = frozenset({"file_too_large", "compression_ratio", "unsupported_compression", "encrypted_file"})
"""Why a file is not read that is harmless where it is no picture."""


@dataclass(frozen=True)
class Scan(Generic[Item_co]):
    """What became of every entry of an archive, by path; `refused` names rows at fault too, which are no files."""

    items: Sequence[Item_co] = ()
    refused: Sequence[Refusal] = ()
    ignored: Sequence[Refusal] = ()
    warnings: Sequence[Refusal] = ()
    faults: Sequence[Refusal] = ()
    """What is wrong with the set as a whole."""
    sources: frozenset[str] = frozenset()
    """Files that hold rows or captions and were read."""
    keys: DigestsByName = field(default_factory=DigestsByName)
    """Keys by path, of pictures whose pixels were read: equal for copies."""


@dataclass(frozen=True)
class Found(Generic[Item_co]):
    """A data set as its validation judges it."""

    name: str
    """Name of the file."""
    items: Sequence[Item_co]
    """The items to train on."""
    held_out: Sequence[Item_co] | None
    """The items to judge by; None where they are not known yet."""
    has_bad_files: bool


class StrayError(Exception):
    """The file is no picture and was not meant to be one."""


@runtime_checkable
class Reader(Protocol[Item_co]):
    """Makes the items of a form of the files of one data set."""

    def take(self, member: Member) -> None:
        """Judge the next file.

        Raises:
            RefusedError: it is at fault.
            StrayError: it is of no use, and was not meant to be of any.
        """

    def finish(self, refused: Sequence[Refusal], ignored: Sequence[Refusal]) -> Scan[Item_co]:
        """Return what came of all files: items by path, all else in any order.

        Args:
            refused: the files that were found at fault.
            ignored: the files that were found to be of no use.
        """


@runtime_checkable
class Form(Protocol[ItemT]):
    """A way in which the files of a data set say what its images are, and what is to be said of such a set."""

    name: str
    """What reports call the form."""

    def fits(self, view: View, /) -> bool:
        """Return whether the files of a view are of this form."""

    def reader(self, view: View, *, decode: bool, previews: Previews | None = None) -> Reader[ItemT]:
        """Make what judges the files; with `decode` by their pixels too, which finds truncation.

        `previews` takes small pictures of what was decoded.
        """

    def nothing_in(self, name: str) -> TaskError:
        """The failure of a run whose data set, of that file name, has no item."""

    def described(self, items: Sequence[ItemT]) -> dict[str, Any]:
        """The fields that a report has for this form alone."""

    def rows(self, items: Sequence[ItemT]) -> Iterator[dict[str, Any]]:
        """The items as the lines of `items.jsonl`."""

    def read(self, rows: Iterable[dict[str, Any]]) -> Sequence[ItemT]:
        """The items of such lines, which are by path.

        Raises:
            TypeError, KeyError, ValueError: they are no such lines.
        """

    def faults(self, found: Found[ItemT]) -> Iterator[Finding]:
        """Find what no training with this set could be right with."""

    def doubts(self, items: Sequence[ItemT], /) -> Iterator[Finding]:
        """Find what makes figures meaningless, or hints at a mistake."""

    def copied(self, item: ItemT, before: ItemT) -> Finding:
        """Return what to say of an item whose image is an earlier one's."""


def scan(
    view: View,
    form: Form[ItemT],
    *,
    decode: bool,
    on_file: Callable[[int, int], None] | None = None,
    previews: Previews | None = None,
) -> Scan[ItemT]:
    """Judge every file, one in memory at a time; `on_file(done, total)` is called after each."""
    reader = form.reader(view, decode=decode, previews=previews)
    refused, ignored = _at_fault(view.archive.refused)
    ignored += view.ignored
    for done, member in enumerate(view.members, start=1):
        try:
            reader.take(member)
        except StrayError as reason:
            ignored.append(Refusal(member.path, "not_an_image", str(reason)))
        except RefusedError as reason:
            refused.append(Refusal(member.path, reason.code, str(reason)))
        if on_file:
            on_file(done, len(view.members))
    found = reader.finish(refused, ignored)
    return Scan(
        found.items,
        _by_path(found.refused),
        _by_path(found.ignored),
        found.warnings,
        found.faults,
        found.sources,
        found.keys,
    )


def is_stray(path: str, code: str) -> bool:
    """Return whether a file that was refused with this code is no picture and was not meant to be one."""
    return code in {"unsupported_format", "empty_file", "nested_archive"} and not has_picture_name(path)


def nested_archives(ignored: Iterable[Refusal]) -> list[Refusal]:
    """A warning for each archive among the ignored files: it may hold images that are missed."""
    message = "archives in archives are not opened, but for tar and tar.gz files; unpack it if it holds images"
    paths = sorted(refusal.path for refusal in ignored if ending_of(refusal.path) in _ARCHIVE_ENDINGS)
    return [Refusal(path, "nested_archive", message) for path in paths]


def _at_fault(refused: list[Refusal]) -> tuple[list[Refusal], list[Refusal]]:
    """(files at fault, files that are no pictures and need not be read)."""
    at_fault, ignored = [], []
    for refusal in refused:
        if refusal.code in _UNREAD and not _is_meant_to_be_read(refusal.path):
            ignored.append(Refusal(refusal.path, "not_an_image", refusal.message))
        else:
            at_fault.append(refusal)
    return at_fault, ignored


def _is_meant_to_be_read(path: str) -> bool:
    """Return whether a file's name says that the data set needs it: a picture's, or a table's."""
    return has_picture_name(path) or path.rpartition("/")[2].casefold() in TABLE_NAMES


def _by_path(refusals: Iterable[Refusal]) -> list[Refusal]:
    return sorted(refusals, key=lambda refusal: refusal.path)
