"""Judging the rows and files of a data set of captioned images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Archive
from difftune_core.data.captioned_item import GROUNDS, CaptionedItem, Role
from difftune_core.data.formats import has_picture_name
from difftune_core.data.images import check_image, load_rgb, load_whole, shows_ground
from difftune_core.data.layout import View, view_of
from difftune_core.data.members import Refusal, RefusedError
from difftune_core.data.rows import Row, Rows, read_rows, stray_tables
from difftune_core.data.scan import nested_archives, split_refusals

_LEVELS = 4  # of 255, within which a control image is one colour: what a JPEG of one colour keeps
_LOOK_SIDE = 64


@dataclass(frozen=True)
class CaptionedScan:
    """`items` by path. `refused` names every file and row at fault; a row is no file of its own."""

    items: list[CaptionedItem]
    refused: list[Refusal]
    ignored: list[Refusal]
    sources: frozenset[str]
    """Files that hold rows or captions and were read."""
    warnings: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _File:
    width: int
    height: int
    sha256: str
    look: bytes = b""
    """Digest of its pixels at a small size, where they were decoded."""
    is_constant: bool = False
    is_transparent: bool = False


def scan_captioned(
    archive: Archive,
    options: DatasetOptions | None = None,
    *,
    decode: bool,
    on_file: Callable[[int, int], None] | None = None,
) -> CaptionedScan:
    """Judge every row and file, one image in memory at a time; `on_file(done, total)` is called after each.

    Args:
        archive: what to read.
        options: what its owner says of it.
        decode: also decode pixels, which finds truncation and control images that say nothing.
        on_file: progress.

    Raises:
        TaskError: `splits_found` or `no_split`.
    """
    view = view_of(archive, options or DatasetOptions())
    rows = read_rows(view)
    roles = _roles(rows)
    files: dict[str, _File] = {}
    refused, ignored = split_refusals(archive.refused)
    refused += rows.refused
    for done, member in enumerate(view.members, start=1):
        if member.path in roles:
            try:
                files[member.path] = _judge(archive.read(member), roles[member.path], decode=decode)
            except RefusedError as reason:
                refused.append(Refusal(member.path, reason.code, str(reason)))
        if on_file:
            on_file(done, len(view.members))
    items, unfit = _join(rows, files, {refusal.path for refusal in refused})
    unused, strays = _unused(view, roles.keys() | rows.sources | rows.claimed)
    ignored = sorted([*ignored, *view.ignored, *strays], key=lambda refusal: refusal.path)
    refused = sorted([*refused, *unfit, *unused], key=lambda refusal: refusal.path)
    warnings = [*rows.warnings, *nested_archives(ignored), *(_about_controls(items, files) if decode else [])]
    return CaptionedScan(items, refused, ignored, frozenset(rows.sources), warnings)


def _roles(rows: Rows) -> dict[str, set[Role]]:
    """Path -> what rows use it as; files of controlled rows alone are looked at more closely."""
    roles: dict[str, set[Role]] = {}
    for row in rows.rows:
        roles.setdefault(row.image, set()).add("image")
        if row.control is not None:
            roles.setdefault(row.control, set()).add("control")
    return roles


def _unused(view: View, spoken_for: set[str]) -> tuple[list[Refusal], list[Refusal]]:
    """(pictures that no row names, other files that are of no use)."""
    tables = stray_tables(view)
    pictures, others = [], []
    for member in view.members:
        if member.path in spoken_for:
            continue
        if has_picture_name(member.path):
            pictures.append(Refusal(member.path, "unused_file", "no row names this file"))
        elif member.path in tables:
            others.append(Refusal(member.path, "unread_table", tables[member.path]))
        else:
            others.append(Refusal(member.path, "no_row", "it holds neither an image that is used nor its caption"))
    return pictures, others


def _judge(data: bytes, roles: set[Role], *, decode: bool) -> _File:
    info = check_image(data, decode=decode)
    digest = hashlib.sha256(data).hexdigest()
    if not decode:
        return _File(info.width, info.height, digest)
    if "control" not in roles:
        look = hashlib.sha256(load_rgb(data, _LOOK_SIDE).tobytes()).digest()
        return _File(info.width, info.height, digest, look)
    pixels = load_whole(data, GROUNDS["control"])
    is_constant = bool((np.ptp(pixels.reshape(-1, 3), axis=0) <= _LEVELS).all())
    look = hashlib.sha256(load_rgb(data, _LOOK_SIDE, GROUNDS["control"]).tobytes()).digest()
    return _File(info.width, info.height, digest, look, is_constant, shows_ground(data))


def _about_controls(items: list[CaptionedItem], files: dict[str, _File]) -> list[Refusal]:
    """Control images from which nothing can be learned."""
    found = []
    controlled = [item for item in items if item.control is not None]
    for path, item in {item.control: item for item in controlled if item.control}.items():
        control, image = files[path], files[item.path]
        if control.is_transparent:
            found.append(Refusal(path, "transparent_control", "its transparent pixels are taken as black"))
        if control.is_constant:
            found.append(Refusal(path, "constant_control", "the control image is of one colour: it says nothing"))
        elif control.look == image.look:
            found.append(Refusal(path, "control_is_image", f"the control image shows what its image {item.path} shows"))
    pictures = {item.sha256 for item in controlled}
    if len(pictures) > 1 and len({item.control_sha256 for item in controlled}) == 1:
        message = f"all {len(controlled)} rows have the same control image: it says nothing about them"
        found.append(Refusal(controlled[0].control or "", "one_control", message))
    return found


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
