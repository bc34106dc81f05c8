"""What a validation has left of a data set, for who trains on it: its files need not be looked at again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from difftune_core.config.dataset import Validated
from difftune_core.data.items import ItemT
from difftune_core.data.scan import Form
from difftune_core.runtime.caches import contents_digest


def read_items(found: Validated, form: Form[ItemT]) -> Sequence[ItemT] | None:
    """The items, by path; None where the file is not as the validation wrote it."""
    try:
        items = form.read(_lines(found.items))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return items if contents_digest(item.contents for item in items) == found.digest else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise TypeError("a line is no row")
            yield row
