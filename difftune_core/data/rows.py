"""Rows of captioned data sets: which image has which caption and which control image.

Two forms are read: tables (`data.tables`), as Hugging Face's imagefolder has them, with names relative to the table's
own folder; and files of one stem (`data.stems`), as webdataset has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from difftune_core.data import stems
from difftune_core.data.captions import caption
from difftune_core.data.layout import View
from difftune_core.data.members import Member, Refusal, RefusedError, clean_path
from difftune_core.data.tables import (
    CAPTION_COLUMNS,
    CONTROL_COLUMNS,
    IMAGE_COLUMNS,
    TABLE_NAMES,
    UNREAD_TABLE,
    columns_of,
    find,
    rows_of,
    table_name,
)

_ALWAYS_TABLE = TABLE_NAMES[0]  # whatever its columns are, it is no stray file


@dataclass(frozen=True, slots=True)
class Row:
    """`where` names the row to people: a line of a file, or the image itself."""

    where: str
    image: str
    caption: str
    control: str | None


@dataclass
class FoundRows:
    """What was read. `sources` are the files that held it; `refused` names every row that could not be used.

    `claimed` are the files of refused rows, as far as these could be read: they are at fault with their row alone.
    """

    rows: list[Row] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    warnings: list[Refusal] = field(default_factory=list)


def is_captioned(view: View) -> bool:
    """Return whether the files are a data set of captioned images: a table that names images, or images with texts.

    Anything else is taken for class folders.
    """
    return bool(tables_of(view)) or stems.is_captioned(view)


def read_rows(view: View) -> FoundRows:
    """The rows of either form: those of tables wherever there is one."""
    tables = tables_of(view)
    found = FoundRows()
    if not tables:
        _read_samples(view, found)
    for table in tables:
        found.sources.add(table.path)
        _read_table(view, table, found)
    found.rows = [row for row in found.rows if row.image not in view.other_splits]
    _drop_repeated(found)
    return found


def tables_of(view: View) -> list[Member]:
    """The table of each folder that has one: the first, in the order of `TABLE_NAMES`, that names images."""
    candidates = [(TABLE_NAMES.index(name), member) for member in view.members if (name := table_name(member))]
    chosen: dict[str, Member] = {}
    for _, member in sorted(candidates, key=lambda pair: pair[0]):
        folder = member.path.rpartition("/")[0]
        if folder not in chosen and _names_images(view, member):
            chosen[folder] = member
    return list(chosen.values())


def stray_tables(view: View) -> dict[str, str]:
    """Path -> why a file is not read that looks as if it held captions."""
    read = {table.path for table in tables_of(view)}
    strays = {}
    for member in view.members:
        if member.path.rpartition("/")[2].casefold() == UNREAD_TABLE:
            strays[member.path] = f"Parquet is not read: write the same as {TABLE_NAMES[0]} or {TABLE_NAMES[1]}"
        elif table_name(member) and member.path not in read:
            strays[member.path] = _why_stray(view, member, read)
    return strays


def _why_stray(view: View, member: Member, read: set[str]) -> str:
    folder = member.path.rpartition("/")[0]
    other = next((path for path in read if path.rpartition("/")[0] == folder), None)
    if other is not None:
        return f"{other} is read instead"
    try:
        columns = _columns(view, member)
    except RefusedError as reason:
        return f"it cannot be read: {reason}"
    return f"no column names images ({', '.join(IMAGE_COLUMNS[:3])}); its columns: {_listed(columns)}"


def _names_images(view: View, member: Member) -> bool:
    if table_name(member) == _ALWAYS_TABLE:
        return True
    try:
        return any(name in IMAGE_COLUMNS for name in _columns(view, member))
    except RefusedError:  # what else could it be, where all pictures lie beside it?
        folder = member.path.rpartition("/")[0]
        return bool(view.pictures) and all(picture.path.rpartition("/")[0] == folder for picture in view.pictures)


def _columns(view: View, member: Member) -> dict[str, Any]:
    return columns_of(table_name(member) or "", view.archive.read(member))


def _read_table(view: View, table: Member, found: FoundRows) -> None:
    folder = table.path.removesuffix(table.path.rpartition("/")[2])
    columns: dict[str, Any] = {}
    lost: list[Refusal] = []
    try:
        for number, row in rows_of(table_name(table) or "", view.archive.read(table)):
            columns |= row if isinstance(row, dict) else {}
            _read_row(f"{table.path}:{number}", folder, row, found, lost)
    except RefusedError as reason:
        lost = [Refusal(table.path, reason.code, str(reason))]
    there = [name for name in CAPTION_COLUMNS if name in columns]
    if columns and not there:
        message = f"no column of captions ({', '.join(CAPTION_COLUMNS)}); its columns: {_listed(columns)}"
        lost = [Refusal(table.path, "missing_column", message)]
    found.refused += lost
    if len(there) > 1:
        message = f"captions are read from {there[0]!r}, not from {', '.join(map(repr, there[1:]))}"
        found.warnings.append(Refusal(table.path, "several_captions", message))


def _listed(columns: dict[str, Any]) -> str:
    return ", ".join(columns) or "none"


def _read_row(
    where: str, folder: str, row: dict[str, Any] | RefusedError, found: FoundRows, lost: list[Refusal]
) -> None:
    try:
        if isinstance(row, RefusedError):
            raise row
        found.rows.append(_row(where, folder, row, found.claimed))
    except RefusedError as reason:
        lost.append(Refusal(where, reason.code, str(reason)))


def _row(where: str, folder: str, row: dict[str, Any], claimed: set[str]) -> Row:
    image = _file(folder, row, IMAGE_COLUMNS)
    if image is None:
        raise RefusedError("unreadable_row", f"{IMAGE_COLUMNS[0]!r} is missing: it names the image")
    named = find(row, CONTROL_COLUMNS)
    if len(named) > 1:
        raise RefusedError("unreadable_row", f"both {named[0]!r} and {named[1]!r} are given; one control image is read")
    control = _file(folder, row, CONTROL_COLUMNS)
    if control == image:
        raise RefusedError("unreadable_row", f"{named[0]!r} names the image itself")
    claimed |= {path for path in (image, control) if path}
    texts = find(row, CAPTION_COLUMNS)
    return Row(where, image, caption(row[texts[0]] if texts else None, image), control)


def _file(folder: str, row: dict[str, Any], columns: tuple[str, ...]) -> str | None:
    named = [name for name in columns if row.get(name) is not None]
    if columns is CONTROL_COLUMNS:
        named = find(row, columns)
    if not named:
        return None
    name = row[named[0]]
    if not isinstance(name, str) or not name:
        raise RefusedError("unreadable_row", f"{named[0]!r} must be the name of a file")
    return folder + clean_path(name)


def _read_samples(view: View, found: FoundRows) -> None:
    for sample in stems.samples_of(view):
        try:
            found.rows.extend(_sample(view, sample, found))
        except RefusedError as reason:
            found.refused.append(Refusal(sample.images[0].path, reason.code, str(reason)))
            found.claimed |= {member.path for member in sample.files}


def _sample(view: View, sample: stems.Sample, found: FoundRows) -> Iterator[Row]:
    """The sample's row; none for files without an image, which are named as unused."""
    if not sample.images:
        return
    if len(sample.images) > 1 or len(sample.controls) > 1:
        several = ", ".join(member.path for member in chain(sample.images, sample.controls))
        raise RefusedError("unreadable_row", f"more than one image or control image has this stem: {several}")
    source, text = stems.caption_of(view, sample)
    found.sources.add(source.path)
    image = sample.images[0].path
    yield Row(image, image, text, sample.controls[0].path if sample.controls else None)


def _drop_repeated(found: FoundRows) -> None:
    """A second row for an image is refused."""
    first: dict[str, Row] = {}
    for row in found.rows:
        before = first.setdefault(row.image, row)
        if before is not row:
            message = f"{row.image} has a row already, {before.where}"
            found.refused.append(Refusal(row.where, "duplicate_row", message))
    found.rows = list(first.values())
