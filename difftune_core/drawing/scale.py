"""The scale that places a result between floor and ceiling: rows of a dot with its 95 % interval on one shared axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

from difftune_core.drawing.numbers import Number, log_ticks, tick_label, with_error

_MARGIN = 1.25  # factor of room at both ends


@dataclass(frozen=True)
class Mark:
    """A value to place."""

    name: str
    value: Number
    se: Number | None = None
    is_result: bool = False


@dataclass(frozen=True)
class Row:
    """A placed value; positions in percent of the axis."""

    name: str
    text: str
    at: float
    low: float
    high: float
    is_result: bool


@dataclass(frozen=True)
class Scale:
    """Rows and the axis (label, position) below them, logarithmic."""

    rows: list[Row]
    ticks: list[tuple[str, float]]


def place(marks: list[Mark]) -> Scale | None:
    """Marks sorted by value on a logarithmic axis; None where fewer than two values are positive."""
    kept = sorted((m for m in marks if math.isfinite(m.value) and m.value > 0), key=lambda mark: mark.value)
    if len(kept) < 2:  # noqa: PLR2004  one value has nothing to be placed between
        return None
    low, high = kept[0].value / _MARGIN, kept[-1].value * _MARGIN

    def percent(value: float) -> float:
        share = math.log(min(max(value, low), high) / low) / math.log(high / low)
        return round(100 * share, 2)

    rows = []
    for mark in kept:
        error = 1.96 * (mark.se or 0.0)
        ends = percent(max(mark.value - error, low)), percent(mark.value + error)
        rows.append(Row(mark.name, with_error(mark.value, mark.se), percent(mark.value), *ends, mark.is_result))
    return Scale(rows, [(tick_label(value), percent(value)) for value in log_ticks(low, high)])
