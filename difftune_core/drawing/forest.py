"""Forest plots as inline SVG: a row for each value with its 95 % interval, all on one axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from difftune_core.drawing.charts import Chart
from difftune_core.drawing.numbers import Number, number, tick_label, ticks

_WIDTH, _ROW, _TOP, _BOTTOM = 340, 38, 6, 24
_LEFT, _RIGHT = 8, 8


@dataclass(frozen=True)
class Estimate:
    """A named value; `low` and `high` are the ends of its interval, None where none is known."""

    name: str
    value: Number
    low: Number | None = None
    high: Number | None = None
    style: str = "s0"


def forest_plot(
    title: str, estimates: Sequence[Estimate], *, note: str = "", zero: bool = False, ends: str = "95 % interval"
) -> Chart | None:
    """Draw the finite estimates; None where there is none.

    Args:
        title: heading.
        estimates: rows, from the top.
        note: what the reader must know beside it.
        zero: whether to mark 0, which stands for no difference.
        ends: what the bars are.
    """
    kept = [one for one in estimates if math.isfinite(one.value)]
    if not kept:
        return None
    values = [end for one in kept for end in (one.value, one.low, one.high) if end is not None and math.isfinite(end)]
    values += [0.0] if zero else []
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin

    def x(value: Number) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * (min(max(value, low), high) - low) / (high - low), 1)

    height = _TOP + _ROW * len(kept) + _BOTTOM
    base = height - _BOTTOM
    parts = [
        Markup(
            '<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="tick x" x="{0}" y="{3}">{4}</text>'
        ).format(x(tick), _TOP, base, base + 15, tick_label(tick))
        for tick in ticks(low, high, 4)
    ]
    if zero:
        parts.append(Markup('<line class="rule" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x(0), _TOP, base))
    parts += [_row(one, x, _TOP + _ROW * place, ends) for place, one in enumerate(kept)]
    label = f"{title}: " + "; ".join(f"{one.name} {_said(one, ends)}" for one in kept)
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return Chart(title, svg.format(_WIDTH, height, label, Markup("").join(parts)), [], note)


def _row(one: Estimate, x: Callable[[Number], float], top: int, ends: str) -> Markup:
    at = top + 27
    text = Markup('<text class="name" x="{}" y="{}">{}</text><text class="value" x="{}" y="{}">{}</text>').format(
        _LEFT, top + 14, one.name, _WIDTH - _RIGHT, top + 14, number(one.value)
    )
    bar = Markup("")
    if one.low is not None and one.high is not None:
        bar = Markup('<line class="bar {}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            one.style, x(one.low), x(one.high), at, at
        )
    dot = Markup('<circle class="dot {}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>')
    return text + bar + dot.format(one.style, x(one.value), at, f"{one.name}: {_said(one, ends)}")


def _said(one: Estimate, ends: str) -> str:
    if one.low is None or one.high is None:
        return number(one.value)
    return f"{number(one.value)}, {ends} {number(one.low)} to {number(one.high)}"
