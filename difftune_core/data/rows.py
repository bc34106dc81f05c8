"""Rows of captioned data sets: which image has which caption and which control image.

Two forms are read. Hugging Face's imagefolder: a `metadata.jsonl` with `file_name`, `text` and, where there are control
images, `conditioning_image_file_name` or `control_file_name`, names relative to its own folder. And webdataset: files
of one stem, `0001.png`, `0001.txt` and, where there are control images, `0001.control.png`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from difftune_core.data.archive import Archive, Member, Refusal, RefusedError
from difftune_core.data.members import clean_path

METADATA_FILE = "metadata.jsonl"
IMAGE_COLUMN, TEXT_COLUMN = "file_name", "text"
CONTROL_COLUMNS = ("conditioning_image_file_name", "control_file_name")
IMAGE_ENDINGS = ("png", "jpg", "jpeg", "webp")
TEXT_ENDING = "txt"
_MAX_CAPTION_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """`where` names the row to people: a line of a file, or the image itself."""

    where: str
    image: str
    caption: str
    control: str | None


@dataclass
class Rows:
    """What was read. `sources` are the files that held it; `refused` names every row that could not be used.

    `claimed` are the files of refused rows, as far as these could be read: they are at fault with their row alone.
    """

    rows: list[Row] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)


def is_captioned(archive: Archive) -> bool:
    """Whether the files are a data set of captioned images: a `metadata.jsonl`, or an image with a text of its stem.

    Anything else is taken for class folders.
    """
    texts, images = set(), set()
    for member in archive:
        stem, _, ending = member.path.rpartition(".")
        if member.path.rsplit("/", 1)[-1] == METADATA_FILE:
            return True
        if ending.lower() == TEXT_ENDING:
            texts.add(stem)
        elif ending.lower() in IMAGE_ENDINGS:
            images.add(stem)
    return not texts.isdisjoint(images)


def read_rows(archive: Archive) -> Rows:
    """The rows of either form: imagefolder wherever there is a `metadata.jsonl`."""
    tables = [member for member in archive if member.path.rsplit("/", 1)[-1] == METADATA_FILE]
    found = Rows()
    if not tables:
        _read_stems(archive, found)
    for table in tables:
        found.sources.add(table.path)
        _read_table(archive, table, found)
    _drop_repeated(found)
    return found


def _read_table(archive: Archive, table: Member, found: Rows) -> None:
    folder = table.path.removesuffix(METADATA_FILE)
    try:
        data = archive.read(table)
    except RefusedError as reason:
        found.refused.append(Refusal(table.path, reason.code, str(reason)))
        return
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{table.path}:{number}"
        try:
            found.rows.append(_row(where, folder, line, found.claimed))
        except RefusedError as reason:
            found.refused.append(Refusal(where, reason.code, str(reason)))


def _row(where: str, folder: str, line: bytes, claimed: set[str]) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RefusedError("unreadable_row", f"the line is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise RefusedError("unreadable_row", "the line is no JSON object")
    image = _file(folder, fields.get(IMAGE_COLUMN), IMAGE_COLUMN)
    if image is None:
        raise RefusedError("unreadable_row", f"{IMAGE_COLUMN!r} is missing: it names the image")
    named = [column for column in CONTROL_COLUMNS if fields.get(column) not in {None, ""}]
    if len(named) > 1:
        raise RefusedError("unreadable_row", f"both {named[0]!r} and {named[1]!r} are given; one control image is read")
    control = _file(folder, fields[named[0]], named[0]) if named else None
    if control == image:
        raise RefusedError("unreadable_row", f"{named[0]!r} names the image itself")
    claimed |= {path for path in (image, control) if path}
    return Row(where, image, _caption(fields.get(TEXT_COLUMN), image), control)


def _file(folder: str, name: Any, column: str) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise RefusedError("unreadable_row", f"{column!r} must be the name of a file")
    return folder + clean_path(name)


def _caption(text: Any, image: str) -> str:
    if text is None or (isinstance(text, str) and not text.strip()):
        raise RefusedError("missing_caption", f"{image} has no caption")
    if not isinstance(text, str):
        raise RefusedError("missing_caption", f"the caption of {image} is no text")
    if len(text) > _MAX_CAPTION_CHARS:
        raise RefusedError("caption_too_long", f"the caption of {image} has over {_MAX_CAPTION_CHARS} characters")
    return " ".join(text.split())


def _read_stems(archive: Archive, found: Rows) -> None:
    """Webdataset's rule: the stem goes to the first dot of the file's own name."""
    samples: dict[str, dict[str, Member]] = {}
    for member in archive:
        folder, slash, name = member.path.rpartition("/")
        stem, _, ending = name.partition(".")
        samples.setdefault(f"{folder}{slash}{stem}", {})[ending.lower()] = member
    for parts in samples.values():
        try:
            found.rows.extend(_sample(archive, parts, found))
        except RefusedError as reason:
            found.refused.append(Refusal(_first_image(parts), reason.code, str(reason)))
            found.claimed |= {member.path for member in parts.values()}


def _sample(archive: Archive, parts: dict[str, Member], found: Rows) -> Iterator[Row]:
    """The sample's row; none for files without an image, which are named as unused."""
    images = [parts[ending] for ending in IMAGE_ENDINGS if ending in parts]
    controls = [parts[f"control.{ending}"] for ending in IMAGE_ENDINGS if f"control.{ending}" in parts]
    if not images:
        return
    if len(images) > 1 or len(controls) > 1:
        raise RefusedError("unreadable_row", "more than one image or control image has this stem")
    if TEXT_ENDING not in parts:
        raise RefusedError("missing_caption", f"the image has no caption: no .{TEXT_ENDING} file has its stem")
    text = parts[TEXT_ENDING]
    found.sources.add(text.path)
    try:
        caption = _caption(archive.read(text).decode(), "the image")
    except UnicodeDecodeError:
        raise RefusedError("missing_caption", f"{text.path} is no UTF-8 text") from None
    except RefusedError as reason:
        code = "missing_caption" if reason.code == "empty_file" else reason.code
        raise RefusedError(code, f"{text.path}: {reason}") from reason
    yield Row(images[0].path, images[0].path, caption, controls[0].path if controls else None)


def _first_image(parts: dict[str, Member]) -> str:
    return next(parts[ending].path for ending in IMAGE_ENDINGS if ending in parts)


def _drop_repeated(found: Rows) -> None:
    """A second row for an image is refused."""
    first: dict[str, Row] = {}
    for row in found.rows:
        before = first.setdefault(row.image, row)
        if before is not row:
            message = f"{row.image} has a row already, {before.where}"
            found.refused.append(Refusal(row.where, "duplicate_row", message))
    found.rows = list(first.values())
