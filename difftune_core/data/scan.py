"""Judging the files of a data set of class folders: what becomes of every entry of the archive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Archive
from difftune_core.data.formats import ending_of, has_picture_name
from difftune_core.data.images import check_image
from difftune_core.data.layout import View, class_root, view_of
from difftune_core.data.members import Member, Refusal, RefusedError
from difftune_core.data.rows import stray_tables
from difftune_core.data.stems import class_labels, few_captions, paired_folders
from difftune_core.data.tables import TABLE_NAMES

_CLASS_PATH_PARTS = 2
_ARCHIVE_ENDINGS = frozenset({"zip", "tar", "tgz", "gz", "bz2", "xz", "zst", "7z", "rar"})
_UNREAD = frozenset({"file_too_large", "compression_ratio", "unsupported_compression", "encrypted_file"})
"""Why a file is not read that is harmless where it is no picture."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An accepted image; width and height in pixels as shown."""

    path: str
    class_name: str
    bytes: int
    width: int
    height: int
    format: str
    sha256: str


@dataclass(frozen=True)
class Scan:
    """What became of every entry: `len(found) + len(refused) + len(ignored) = entries`."""

    found: list[FoundImage]
    refused: list[Refusal]
    ignored: list[Refusal]
    warnings: list[Refusal] = field(default_factory=list)
    faults: list[Refusal] = field(default_factory=list)
    """What is wrong with the set as a whole."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Sorted by code point, so that labels do not depend on a locale."""
        return tuple(sorted({image.class_name for image in self.found}))


def scan(
    archive: Archive,
    options: DatasetOptions | None = None,
    *,
    decode: bool,
    on_file: Callable[[int, int], None] | None = None,
) -> Scan:
    """Judge every file, one in memory at a time; `on_file(done, total)` is called after each.

    Args:
        archive: what to read.
        options: what its owner says of it.
        decode: also decode pixels, which finds truncation.
        on_file: progress.

    Raises:
        TaskError: `splits_found` or `no_split`.
    """
    view = view_of(archive, options or DatasetOptions())
    classes = _Classes(view)
    found: list[FoundImage] = []
    refused, ignored = split_refusals(archive.refused)
    ignored += view.ignored
    for done, member in enumerate(view.members, start=1):
        try:
            found.append(_accept(archive, member, classes, decode=decode))
        except _NoPictureError as reason:
            ignored.append(Refusal(member.path, "not_an_image", str(reason)))
        except RefusedError as reason:
            refused.append(Refusal(member.path, reason.code, str(reason)))
        if on_file:
            on_file(done, len(view.members))
    found.sort(key=lambda image: image.path)
    refused.sort(key=lambda refusal: refusal.path)
    ignored.sort(key=lambda refusal: refusal.path)
    warnings = [*classes.warnings(refused), *nested_archives(ignored)]
    return Scan(found, refused, ignored, warnings, classes.faults())


def split_refusals(refused: list[Refusal]) -> tuple[list[Refusal], list[Refusal]]:
    """(files at fault, files that are no pictures and need not be read)."""
    at_fault, ignored = [], []
    for refusal in refused:
        if refusal.code in _UNREAD and not is_meant_to_be_read(refusal.path):
            ignored.append(Refusal(refusal.path, "not_an_image", refusal.message))
        else:
            at_fault.append(refusal)
    return at_fault, ignored


def is_stray(path: str, code: str) -> bool:
    """Whether a file that was refused with this code is no picture and was not meant to be one."""
    return code in {"unsupported_format", "empty_file", "nested_archive"} and not has_picture_name(path)


def nested_archives(ignored: list[Refusal]) -> list[Refusal]:
    """A warning for each archive among the ignored files: it may hold images that are missed."""
    message = "archives in archives are not opened, but for plain tar files; unpack it if it holds images"
    paths = [refusal.path for refusal in ignored if ending_of(refusal.path) in _ARCHIVE_ENDINGS]
    return [Refusal(path, "nested_archive", message) for path in paths]


def is_meant_to_be_read(path: str) -> bool:
    """Whether a file's name says that the data set needs it: a picture's, or a table's."""
    return has_picture_name(path) or path.rpartition("/")[2].casefold() in TABLE_NAMES


class _NoPictureError(Exception):
    """The file is no picture and was not meant to be one."""


class _Classes:
    """Which class each file of a view belongs to: its folder, or what its `.cls` file says."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._labels = class_labels(view)
        self._root = class_root([view.names[member.path] for member in view.pictures])

    def of(self, member: Member) -> str:
        """The class of a picture.

        Raises:
            RefusedError: `no_class_folder`, `nested_folder`, `missing_label`.
        """
        if self._labels is not None:
            if member.path not in self._labels:
                raise RefusedError("missing_label", "no .cls file of its stem says its class, as others have one")
            return self._labels[member.path]
        parts = self._within(self._view.names[member.path]).split("/")
        if len(parts) < _CLASS_PATH_PARTS:
            raise RefusedError("no_class_folder", "the image lies in no class folder; put it in <class>/<file>")
        if len(parts) > _CLASS_PATH_PARTS:
            raise RefusedError(
                "nested_folder", "the image lies too deep; class folders hold no folders: <class>/<file>"
            )
        return parts[0]

    def warnings(self, refused: list[Refusal]) -> list[Refusal]:
        """What the layout leaves open."""
        found = [Refusal(path, "unread_table", why) for path, why in stray_tables(self._view).items()]
        texts = few_captions(self._view)
        if texts:
            count = len(self._view.pictures)
            more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
            message = f"{texts[0]}{more}: only {len(texts)} of {count} images have captions; these are class folders"
            found.append(Refusal(texts[0], "few_captions", message))
        return [*found, *self._empty(refused)]

    def faults(self) -> list[Refusal]:
        """What no training could be right with."""
        names = [self._within(self._view.names[member.path]) for member in self._view.pictures]
        pair = None if self._labels is not None else paired_folders([name for name in names if name.count("/") == 1])
        if pair is None:
            return []
        message = f"{pair[0]}/ and {pair[1]}/ hold the same names: images and their control images, not two classes. "
        return [
            Refusal(pair[0], "control_folders", message + "Captions are missing: add prompt.json or metadata.jsonl")
        ]

    def _empty(self, refused: list[Refusal]) -> list[Refusal]:
        if self._labels is not None:
            return []
        names = [*(self._view.names[member.path] for member in self._view.pictures), *(r.path for r in refused)]
        used = {self._within(name).split("/")[0] for name in names}
        folders = {self._within(folder) for folder in self._view.folders if folder.startswith(self._root)}
        empty = sorted(folder for folder in folders if folder and "/" not in folder and folder not in used)
        return [Refusal(name, "empty_class_folder", "the folder has no image: it is no class") for name in empty]

    def _within(self, name: str) -> str:
        return name.removeprefix(self._root)


def _accept(archive: Archive, member: Member, classes: _Classes, *, decode: bool) -> FoundImage:
    try:
        data = archive.read(member)
        info = check_image(data, decode=decode)
    except RefusedError as reason:
        if is_stray(member.path, reason.code):
            text = "the file is no image, by its content and its name"
            raise _NoPictureError(text if reason.code != "empty_file" else str(reason)) from None
        raise
    digest = hashlib.sha256(data).hexdigest()
    return FoundImage(member.path, classes.of(member), member.bytes, info.width, info.height, info.format, digest)
