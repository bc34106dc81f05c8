"""Tables of rows in a data set: `metadata.jsonl`, `.csv` or `.json`, and the `prompt.json` of ControlNet's tutorial.

Every form becomes rows of columns; columns are found by the names that people give them, in any case of letters.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from difftune_core.data.captions import decoded
from difftune_core.data.formats import has_picture_name
from difftune_core.data.members import Member, RefusedError

IMAGE_COLUMNS: Final = ("file_name", "filename", "image", "image_file", "target", "file", "path")
CAPTION_COLUMNS: Final = ("text", "caption", "prompt")
CONTROL_COLUMNS: Final = (
    "conditioning_image_file_name",
    "control_file_name",
    "conditioning_image",
    "control_image",
    "control",
    "source",
)
TABLE_NAMES: Final = ("metadata.jsonl", "metadata.csv", "metadata.json", "prompt.json")
"""In the order in which one of a folder's tables is read; the others stay out."""
UNREAD_TABLE: Final = "metadata.parquet"

_CSV_FIELD_CHARS = 1 << 20
csv.field_size_limit(_CSV_FIELD_CHARS)


def table_name(member: Member) -> str | None:
    """The kind of table that a file is by its name, in any case of letters."""
    name = member.path.rpartition("/")[2].casefold()
    return name if name in TABLE_NAMES else None


def rows_of(name: str, data: bytes) -> Iterator[tuple[int, dict[str, Any] | RefusedError]]:
    """(number of the line or of the row, its columns by name in lower case, or why it cannot be read).

    Raises:
        RefusedError: `unreadable_row` where nothing of the table can be read.
    """
    try:
        text = decoded(data)
    except RefusedError as reason:
        raise RefusedError("unreadable_row", str(reason)) from None
    if name.endswith(".csv"):
        yield from _csv_rows(text)
        return
    whole = _array(text) if name.endswith(".json") else None
    if whole is not None:
        yield from ((number, _columns(row)) for number, row in enumerate(whole, start=1))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _line(line)


def find(row: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Those of the columns that the row has something in."""
    return [name for name in names if row.get(name) not in (None, "")]


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | RefusedError]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        for row in reader:
            if not row:
                continue
            if len(row) > len(header):
                yield (
                    reader.line_num,
                    RefusedError("unreadable_row", f"{len(row)} columns; the header has {len(header)}"),
                )
            else:
                yield reader.line_num, dict(zip(header, row, strict=False))
    except csv.Error as error:
        yield reader.line_num, RefusedError("unreadable_row", f"the line is no CSV: {error}")


def _array(text: str) -> list[Any] | None:
    """The rows of a JSON array, or of an object that has one row per file; None where it is neither."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list):
        return found
    if not isinstance(found, dict) or not all(has_picture_name(name) for name in found):
        return None
    return [_keyed(name, value) for name, value in found.items()]


def _keyed(name: str, value: Any) -> dict[str, Any]:
    return {"file_name": name, **(value if isinstance(value, dict) else {"text": value})}


def _line(line: str) -> dict[str, Any] | RefusedError:
    try:
        return _columns(json.loads(line))
    except (ValueError, RecursionError) as error:
        return RefusedError("unreadable_row", f"the line is no JSON: {error}")


def _columns(row: Any) -> dict[str, Any] | RefusedError:
    if not isinstance(row, dict):
        return RefusedError("unreadable_row", "the line is no JSON object")
    return _lowered(row)


def _lowered(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.strip().casefold(): value for name, value in row.items()}
