"""What the service answers, as text for a terminal."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import typer

_MAX_CELL = 40


def tell(found: Any, text: str, *, as_json: bool) -> None:
    """Print what a command has found: for programs as JSON, for people as `text`."""
    typer.echo(json.dumps(found, indent=1) if as_json else text)


def table(found: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Write a line a row; `columns` are the fields shown and their headings."""
    rows = [list(columns.values()), *([_cell(one.get(name)) for name in columns] for one in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def printable(text: str) -> str:
    """Return text of strangers as a terminal may be given it: what would move its cursor or colour it is escaped."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Cs"} else c.encode("unicode_escape").decode()
        for c in text
    )


def _cell(value: Any) -> str:
    value = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
    value = ", ".join(value) if isinstance(value, list | tuple) else value
    text = f"{value:,}" if isinstance(value, int) else printable(str(value or "")).split("\n")[0]
    return text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 3] + "..."


def sheet(found: dict[str, Any]) -> str:
    """Write one line a field; what has parts of its own is written as JSON."""
    lines = []
    for name, value in found.items():
        text = (
            json.dumps(value, indent=1).replace("\n", "\n  ")
            if isinstance(value, dict | list)
            else printable(str(value))
        )
        lines.append(f"{name}: {text}")
    return "\n".join(lines)
