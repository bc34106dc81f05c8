"""A data set of images with captions and, in every row or in none, control images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from difftune_core.data.archive import Archive, Limits, Member, Refusal, RefusedError, open_archive
from difftune_core.data.images import check_image, load_rgb
from difftune_core.data.rows import Row, Rows, read_rows
from difftune_core.files import sha256_json
from difftune_core.hooks import TaskError

Role = Literal["image", "control"]


@dataclass(frozen=True, slots=True)
class CaptionedItem:
    """A row whose files are whole and fit each other; width and height in pixels as shown."""

    path: str
    caption: str
    width: int
    height: int
    sha256: str
    control: str | None
    control_sha256: str | None


@dataclass(frozen=True)
class CaptionedScan:
    """`items` by path. `refused` names every file and row at fault; `unused` are files that no row names."""

    items: list[CaptionedItem]
    refused: list[Refusal]
    unused: list[str]
    sources: frozenset[str]
    """Files that hold rows or captions and were read."""
    ignored: int


@dataclass(frozen=True)
class CaptionedSet:
    """The data set at `source`, its items sorted by path."""

    source: Path
    items: tuple[CaptionedItem, ...]
    limits: Limits

    def __len__(self) -> int:
        return len(self.items)

    @property
    def has_controls(self) -> bool:
        """Whether its rows name control images; otherwise they are to be drawn."""
        return bool(self.items) and self.items[0].control is not None

    @property
    def digest(self) -> str:
        """sha256 over captions and contents: equal for any packaging, names and order of the same rows."""
        return captioned_digest(self.items)


@dataclass(frozen=True, slots=True)
class _File:
    width: int
    height: int
    sha256: str


def captioned_digest(items: Iterable[CaptionedItem]) -> str:
    """sha256 over the sorted triples of caption, image and control."""
    return sha256_json(sorted([item.caption, item.sha256, item.control_sha256 or ""] for item in items))


def scan_captioned(
    archive: Archive, *, decode: bool, on_file: Callable[[int, int], None] | None = None
) -> CaptionedScan:
    """Judge every row and file, one image in memory at a time; `on_file(done, total)` is called after each.

    Args:
        archive: what to read.
        decode: also decode pixels, which finds truncation.
        on_file: progress.
    """
    rows = read_rows(archive)
    named = {path for row in rows.rows for path in (row.image, row.control) if path}
    files: dict[str, _File] = {}
    refused = [*archive.refused, *rows.refused]
    for done, member in enumerate(archive, start=1):
        if member.path in named:
            try:
                files[member.path] = _judge(archive.read(member), decode=decode)
            except RefusedError as reason:
                refused.append(Refusal(member.path, reason.code, str(reason)))
        if on_file:
            on_file(done, len(archive.members))
    items, unfit = _join(rows, files, {refusal.path for refusal in refused})
    spoken_for = named | rows.sources | rows.claimed
    unused = sorted(member.path for member in archive if member.path not in spoken_for)
    refused = sorted([*refused, *unfit], key=lambda refusal: refusal.path)
    return CaptionedScan(items, refused, unused, frozenset(rows.sources), archive.ignored)


def open_captioned(path: Path, limits: Limits | None = None) -> CaptionedSet:
    """The data set in an archive or folder; headers are read, pixels are not.

    Raises:
        TaskError: `invalid_dataset` naming the first file or row at fault, or why the archive cannot be read.
    """
    limits = limits or Limits()
    with open_archive(path, limits) as archive:
        result = scan_captioned(archive, decode=False)
    if result.refused:
        first = result.refused[0]
        raise TaskError("invalid_dataset", f"{first.path}: {first.message} ({first.code})", first.path)
    if not result.items:
        raise TaskError("invalid_dataset", "there is no image with a caption", path.name)
    return CaptionedSet(path, tuple(result.items), limits)


def iter_files(dataset: CaptionedSet, size: int) -> Iterator[tuple[Role, list[int], UInt8[np.ndarray, "size size 3"]]]:
    """What a file is, the places in `items` that it serves, and its pixels; in the archive's own order.

    One file is in memory at a time. Images and controls are brought to `size` in the same way (`load_rgb`), so that
    they still fit each other.

    Raises:
        TaskError: `dataset_changed` where a file is gone or not the one that was listed, `invalid_dataset` where it is
            damaged.
    """
    roles: dict[str, list[tuple[Role, int]]] = {}
    digests: dict[str, str | None] = {}
    for place, item in enumerate(dataset.items):
        roles.setdefault(item.path, []).append(("image", place))
        digests[item.path] = item.sha256
        if item.control is not None:
            roles.setdefault(item.control, []).append(("control", place))
            digests[item.control] = item.control_sha256
    with open_archive(dataset.source, dataset.limits) as archive:
        gone = sorted(roles.keys() - {member.path for member in archive})
        if gone:
            raise TaskError("dataset_changed", f"{gone[0]} is gone, with {len(gone) - 1} more", gone[0])
        for member in archive:
            if member.path in roles:
                pixels = _load(archive, member, digests[member.path], size)
                for role in ("image", "control"):
                    places = [place for kind, place in roles[member.path] if kind == role]
                    if places:
                        yield role, places, pixels


def _judge(data: bytes, *, decode: bool) -> _File:
    info = check_image(data, decode=decode)
    return _File(info.width, info.height, hashlib.sha256(data).hexdigest())


def _join(rows: Rows, files: dict[str, _File], faulty: set[str]) -> tuple[list[CaptionedItem], list[Refusal]]:
    """Rows with their files, and what does not fit; a file in `faulty` was named already."""
    with_control = sum(row.control is not None for row in rows.rows)
    items, refused = [], []
    for row in rows.rows:
        try:
            _check_present(row, files, faulty)
            if row.image in files and (row.control is None or row.control in files):
                items.append(_item(row, files, with_control))
        except RefusedError as reason:
            refused.append(Refusal(row.where, reason.code, str(reason)))
    return sorted(items, key=lambda item: item.path), refused


def _check_present(row: Row, files: dict[str, _File], faulty: set[str]) -> None:
    for path in (row.image, row.control):
        if path and path not in files and path not in faulty:
            raise RefusedError("missing_file", f"{path} is not in the data set")


def _item(row: Row, files: dict[str, _File], with_control: int) -> CaptionedItem:
    image = files[row.image]
    if row.control is None:
        if with_control:
            name = "the image" if row.where == row.image else row.image  # a finding names the row before its message
            raise RefusedError("missing_control", f"{name} has no control image, as {with_control} others have")
        return CaptionedItem(row.image, row.caption, image.width, image.height, image.sha256, None, None)
    control = files[row.control]
    if (control.width, control.height) != (image.width, image.height):
        sizes = f"{control.width} x {control.height}, its image {row.image} {image.width} x {image.height}"
        raise RefusedError("control_size", f"the control image {row.control} is {sizes}")
    return CaptionedItem(row.image, row.caption, image.width, image.height, image.sha256, row.control, control.sha256)


def _load(archive: Archive, member: Member, digest: str | None, size: int) -> UInt8[np.ndarray, "size size 3"]:
    try:
        data = archive.read(member)
        if hashlib.sha256(data).hexdigest() != digest:
            raise TaskError("dataset_changed", f"{member.path} changed after the data set was listed", member.path)
        return load_rgb(data, size)
    except RefusedError as reason:
        raise TaskError("invalid_dataset", f"{member.path}: {reason} ({reason.code})", member.path) from reason
