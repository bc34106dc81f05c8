"""Tables of rows in a data set: `metadata.jsonl`, `.csv` or `.json`, and the `prompt.json` of ControlNet's tutorial.

Every form becomes rows of columns; columns are found by the names that people give them, in any case of letters.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
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
"""Names of tables, in the order in which one of a folder's is read; the others stay out."""
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
    text = _text(data)
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
    """The columns, of these, that the row has something in."""
    return [name for name in names if row.get(name) not in (None, "")]


def _text(data: bytes) -> str:
    try:
        return decoded(data)
    except RefusedError as reason:
        raise RefusedError("unreadable_row", str(reason)) from None


def _reader(text: str) -> Any:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)


def _header(text: str) -> list[str]:
    try:
        return [name.strip().casefold() for name in next(_reader(text), [])]
    except csv.Error as error:
        raise RefusedError("unreadable_row", f"the header is no CSV: {error}") from None


def _check_unique(header: list[str]) -> None:
    """Refuse two columns of one name: which of them is meant nobody can know."""
    twice = next((name for name, count in Counter(filter(None, header)).items() if count > 1), None)
    if twice is not None:
        raise RefusedError("unreadable_row", f"there are two columns {twice!r}")


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | RefusedError]]:
    reader = _reader(text)
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        _check_unique(header)
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


def columns_of(name: str, data: bytes) -> dict[str, Any]:
    """Return the columns by which a table is judged: a CSV's header, else those of the first row that names an image.

    Raises:
        RefusedError: `unreadable_row` where no row can be read, with the reason.
    """
    if name.endswith(".csv"):
        header = _header(_text(data))
        _check_unique(header)
        return dict.fromkeys(header)
    found: dict[str, Any] = {}
    why: RefusedError | None = None
    for _, row in rows_of(name, data):
        if isinstance(row, RefusedError):
            why = why or row
        elif find(row, IMAGE_COLUMNS):
            return row
        else:
            found = found or row
    if why is not None and not found:
        raise why
    return found


def _array(text: str) -> list[Any] | None:
    """The rows of a JSON array, or of an object that has one row per file; None where it is neither."""
    try:
        found = json.loads(text, object_pairs_hook=_object)
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
        return _columns(json.loads(line, object_pairs_hook=_object))
    except RefusedError as reason:
        return reason
    except (ValueError, RecursionError) as error:
        return RefusedError("unreadable_row", f"the line is no JSON: {error}")


def _columns(row: Any) -> dict[str, Any] | RefusedError:
    if not isinstance(row, dict):
        return RefusedError("unreadable_row", "the line is no JSON object")
    lowered = [name.strip().casefold() for name in row]
    try:
        _check_unique(lowered)
    except RefusedError as reason:
        return reason
    return dict(zip(lowered, row.values(), strict=True))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_unique([name for name, _ in pairs])
    return dict(pairs)
