"""Strips: every run of every method as a dot on one axis, beside what the figure is read against."""

from __future__ import annotations

import math
from dataclasses import dataclass

from difftune_core.drawing.numbers import Number, log_ticks, tick_label, ticks, with_error

_LOG_FROM = 12  # ratio of the extremes from which the axis is logarithmic
_MARGIN = 1.15  # factor of room at both ends of a logarithmic axis
_EQUAL = 1e-6  # of the values: what differs by less is drawn as one
_ROOM = 0.06  # share of the range as room at both ends of a linear one


@dataclass(frozen=True)
class Line:
    """Values to place; a reference is drawn in grey."""

    name: str
    css: str
    values: list[Number]
    sd: Number | None = None
    is_reference: bool = False


@dataclass(frozen=True)
class StripRow:
    """Placed values; positions in percent of the axis."""

    name: str
    css: str
    dots: list[float]
    mean: float
    text: str
    is_reference: bool


@dataclass(frozen=True)
class Strip:
    """Rows and the axis (label, position) below them."""

    title: str
    rows: list[StripRow]
    ticks: list[tuple[str, float]]
    note: str


def place_strip(title: str, lines: list[Line]) -> Strip | None:
    """Place all lines on one axis, logarithmic where values spread far; None where no method has a value."""
    kept = [line for line in lines if line.values]
    if all(line.is_reference for line in kept):
        return None
    values = [value for line in kept for value in line.values]
    low, high = min(values), max(values)
    high = high if high - low > _EQUAL * abs(high) else low
    is_log = low > 0 and high / low > _LOG_FROM
    if is_log:
        low, high = low / _MARGIN, high * _MARGIN
    else:
        room = _ROOM * (high - low) or abs(high) * 0.1 or 1.0
        low, high = low - room, high + room

    def percent(value: Number) -> float:
        share = math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)
        return round(100 * share, 2)

    rows = []
    for line in kept:
        mean = sum(line.values) / len(line.values)
        dots = [percent(value) for value in line.values]
        text = with_error(mean, line.sd)
        rows.append(StripRow(line.name, line.css, dots, percent(mean), text, line.is_reference))
    marks = log_ticks(low, high) if is_log else ticks(low, high, 4)
    note = "Logarithmic axis." if is_log else ""
    return Strip(title, rows, [(tick_label(value), percent(value)) for value in marks], note)
