"""The head of every page: what it is of, whose it is, since when, on what data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Heading:
    """`title` names a tab or a file, `name` heads the page, `told` stands below it."""

    title: str
    name: str
    told: str


def heading(what: str, about: dict[str, Any] | None) -> Heading:
    """The head of the page about `what`; `about` as `difftune_core.config.about.About`, or nothing by hand."""
    known = about or {}
    name = f"{known['name']}: {what}" if known.get("name") else what
    data, validation, moment = known.get("data"), known.get("validation"), known.get("created_at")
    told = [
        known.get("id"),
        f"submitted {_day(moment)}" if moment else None,
        f"data {data}" if data else None,
        f"held out {validation}" if validation else None,
    ]
    title = f"{name} ({known['id']})" if known.get("id") else name
    return Heading(title, name, " \u00b7 ".join(part for part in told if part))


def _day(moment: int) -> str:
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"
