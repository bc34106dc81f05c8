"""The form of data sets of images with captions and, in every row or in none, control images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from difftune_core.data.captioned_images import CaptionedImages
from difftune_core.data.columns import DigestsByName, distinct
from difftune_core.data.findings import Finding
from difftune_core.data.formats import has_picture_name
from difftune_core.data.items import CaptionedImage, Role
from difftune_core.data.layout import View
from difftune_core.data.members import Member, Refusal, RefusedError
from difftune_core.data.pictures import Picture, idle_controls, look_at
from difftune_core.data.previews import Previews
from difftune_core.data.rows import FoundRows, Row, is_captioned, read_rows, stray_tables
from difftune_core.data.scan import Found, Scan, nested_archives
from difftune_core.hooks import TaskError

MIN_ITEMS = 2


def have_controls(items: Sequence[CaptionedImage]) -> bool:
    """Return whether the rows name control images; otherwise these are to be drawn."""
    return bool(items) and items[0].control is not None


class Captioned:
    """Images whose captions stand in a table or in files beside them."""

    name = "captioned"

    def fits(self, view: View, /) -> bool:
        """A table names images, or images have texts."""
        return is_captioned(view)

    def reader(self, view: View, *, decode: bool, previews: Previews | None = None) -> _Reader:
        """Make the reader that judges rows and files."""
        return _Reader(view, decode=decode, previews=previews)

    def nothing_in(self, name: str) -> TaskError:
        """Say that there are no rows."""
        return TaskError("invalid_dataset", "there is no image with a caption", name)

    def described(self, items: Sequence[CaptionedImage]) -> dict[str, Any]:
        """The number of distinct captions, and whether there are control images."""
        return {"num_captions": distinct(item.caption for item in items), "has_controls": have_controls(items)}

    def rows(self, items: Sequence[CaptionedImage]) -> Iterator[dict[str, Any]]:
        """Return the rows as they are."""
        return map(asdict, items)

    def read(self, rows: Iterable[dict[str, Any]]) -> CaptionedImages:
        """Return the rows as they are."""
        return CaptionedImages(CaptionedImage(**row) for row in rows)

    def faults(self, found: Found[CaptionedImage]) -> Iterator[Finding]:
        """Find too few rows, where that is not what bad files came to."""
        if not found.has_bad_files and len(found.items) < MIN_ITEMS:
            count = f"{len(found.items)} images with captions were found; at least {MIN_ITEMS} are needed"
            yield Finding(found.name, "too_few_rows", f"{count} (metadata.jsonl, or .txt files)", "error")

    def doubts(self, _items: Sequence[CaptionedImage], /) -> Iterator[Finding]:
        """Doubt nothing that the files do not say."""
        yield from ()

    def copied(self, item: CaptionedImage, before: CaptionedImage) -> Finding:
        """Find nothing wrong with a copy: it may have another caption."""
        same = "and the same caption" if item.caption == before.caption else "with another caption"
        return Finding(item.path, "duplicate_image", f"the same content as {before.path}, {same}", "warning")


class _Reader:
    """Joins the rows of a view with the files that they name."""

    def __init__(self, view: View, *, decode: bool, previews: Previews | None) -> None:
        self._view = view
        self._decode, self._previews = decode, previews
        self._rows = read_rows(view)
        self._roles = _roles(self._rows)
        self._files: dict[str, Picture] = {}

    def take(self, member: Member) -> None:
        """Look at a file that a row names."""
        if member.path in self._roles:
            data = self._view.archive.read(member)
            keep = self._previews.keeper(member.path) if self._previews is not None else None
            self._files[member.path] = look_at(data, self._roles[member.path], decode=self._decode, keep=keep)

    def finish(self, refused: Sequence[Refusal], ignored: Sequence[Refusal]) -> Scan[CaptionedImage]:
        """Return all rows whose files are whole and fit each other."""
        rows, files = self._rows, self._files
        faulty = [*refused, *rows.refused]
        items, unfit = _join(rows, files, {refusal.path for refusal in faulty})
        unused, strays = _unused(self._view, self._roles.keys() | rows.sources | rows.claimed)
        ignored = [*ignored, *strays]
        warnings = [*rows.warnings, *nested_archives(ignored)]
        warnings += idle_controls(items, files) if self._decode else []
        keys = DigestsByName()
        for path, file in files.items():
            if file.key is not None:
                keys.add(path, file.key)
        sources = frozenset(rows.sources)
        return Scan(items, [*faulty, *unfit, *unused], ignored, warnings, sources=sources, keys=keys)


def _roles(rows: FoundRows) -> dict[str, set[Role]]:
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


def _join(rows: FoundRows, files: dict[str, Picture], faulty: set[str]) -> tuple[CaptionedImages, list[Refusal]]:
    """Rows with their files, and what does not fit; a file in `faulty` was named already."""
    with_control = sum(row.control is not None for row in rows.rows)
    items, refused = CaptionedImages(), []
    for row in rows.rows:
        try:
            _check_present(row, files, faulty)
            if row.image in files and (row.control is None or row.control in files):
                items.append(_item(row, files, with_control))
        except RefusedError as reason:
            refused.append(Refusal(row.where, reason.code, str(reason)))
    return items.by_path(), refused


def _check_present(row: Row, files: dict[str, Picture], faulty: set[str]) -> None:
    for path in (row.image, row.control):
        if path and path not in files and path not in faulty:
            raise RefusedError("missing_file", f"{path} is not in the data set")


def _item(row: Row, files: dict[str, Picture], with_control: int) -> CaptionedImage:
    image = files[row.image]
    if row.control is None:
        if with_control:
            name = "the image" if row.where == row.image else row.image  # a finding names the row before its message
            raise RefusedError("missing_control", f"{name} has no control image, as {with_control} others have")
        return CaptionedImage(row.image, row.caption, image.width, image.height, image.sha256, None, None)
    control = files[row.control]
    if (control.width, control.height) != (image.width, image.height):
        sizes = f"{control.width} x {control.height}, its image {row.image} {image.width} x {image.height}"
        raise RefusedError("control_size", f"the control image {row.control} is {sizes}")
    return CaptionedImage(row.image, row.caption, image.width, image.height, image.sha256, row.control, control.sha256)
