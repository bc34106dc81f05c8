"""Pages of the items file (JSON Lines in the store). An item's id is its place there, so a page costs a page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from api.datasets.schemas import DatasetItem
from api.errors import InvalidInputError
from api.storage import ObjectStore

_ID = re.compile(r"item_([0-9]{1,15})")


def item_page(store: ObjectStore, key: str, *, after: str | None, limit: int) -> list[DatasetItem]:
    """Return up to `limit` items that follow the one with the id `after`.

    Raises:
        InvalidInputError: `after` is no id of an item of this file.
    """
    start = _start(after) if after else 0
    if start >= store.stat(key).bytes:
        if after:
            raise _not_an_item(after)
        return []
    lines = lines_of(store.read(key, start), start)
    try:
        items = [
            DatasetItem.model_validate({**json.loads(line), "id": f"item_{offset}"})
            for offset, line in islice(lines, limit + bool(after))
        ]
    except (ValueError, TypeError):  # the offset lies within a line
        raise _not_an_item(after or "") from None
    return items[bool(after) :]


def _start(after: str) -> int:
    matched = _ID.fullmatch(after)
    if matched is None:
        raise _not_an_item(after)
    return int(matched[1])


def lines_of(chunks: Iterable[bytes], offset: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines and where they begin, of bytes that begin at `offset`."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield offset, line
            offset += len(line) + 1
    if rest:
        yield offset, rest


def _not_an_item(after: str) -> InvalidInputError:
    return InvalidInputError("invalid_cursor", f"{after!r} is no item of this data set.", param="after", pointer=None)
