"""Small line charts as inline SVG: no script, colours from the page's style sheet, readable at a phone's width."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup, escape

from difftune_core.drawing.numbers import Number, log_ticks, number, tick_label, ticks

Point = tuple[Number, Number]

WIDTH, HEIGHT = 340, 205
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 8, 34
_MAX_POINTS = 240
_SMOOTH_FROM = 30  # points from which a line is too rough to be read without its mean
_EQUAL = 1e-6  # of the values: what differs by less is drawn as one
_LOG_FROM = 50  # ratio of the extremes from which the axis is logarithmic


@dataclass(frozen=True)
class Series:
    """A named line; `errors` are standard errors, drawn as 95 % bars, `band` the range at each point."""

    name: str
    points: list[Point]
    errors: list[Number] | None = None
    band: list[tuple[Number, Number]] | None = None


@dataclass(frozen=True)
class Rule:
    """A named horizontal line."""

    name: str
    value: Number


@dataclass(frozen=True)
class Chart:
    """A drawn chart with what its legend says."""

    title: str
    svg: Markup
    legend: list[tuple[str, str]]
    """(css class, text)."""
    note: str = ""


@dataclass(frozen=True)
class _Frame:
    """Data to pixels."""

    x_range: tuple[Number, Number]
    y_range: tuple[Number, Number]
    log_y: bool

    def x(self, value: Number) -> float:
        low, high = self.x_range
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low or 1), 1)

    def y(self, value: Number) -> float:
        scale: Callable[[Number], float] = math.log10 if self.log_y else float
        low, high = scale(self.y_range[0]), scale(self.y_range[1])
        share = (scale(min(max(value, self.y_range[0]), self.y_range[1])) - low) / (high - low or 1)
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share, 1)


def line_chart(
    title: str, series: list[Series], *, x_label: str, rules: list[Rule] | None = None, show_last: bool = True
) -> Chart:
    """A chart of all finite points; logarithmic where values spread over more than a factor of fifty.

    Args:
        title: heading.
        series: lines.
        x_label: what is on the x axis.
        rules: horizontal lines for comparison.
        show_last: whether the legend gives each line's last value.
    """
    rules = rules or []
    finite = [_finite(s) for s in series]
    thinned = [s if len(s.points) <= _MAX_POINTS else Series(s.name, _thin(s.points)) for s in finite]
    frame = _frame(thinned, rules)
    parts = [_grid(frame, x_label)]
    parts += [_rule(frame, rule, i) for i, rule in enumerate(rules)]
    parts += [_line(frame, s, i) for i, s in enumerate(thinned)]
    label = f"{title}: {', '.join(s.name for s in series)}"
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(parts)
    )
    legend = [(f"s{i}", _entry(s, show_last=show_last)) for i, s in enumerate(finite) if s.points]
    legend += [(f"rule r{i}", f"{rule.name} {number(rule.value)}") for i, rule in enumerate(rules)]
    return Chart(title, svg, legend, _note(finite, log=frame.log_y))


def _finite(series: Series) -> Series:
    kept = [i for i, (_, y) in enumerate(series.points) if math.isfinite(y)]
    errors = [series.errors[i] for i in kept] if series.errors else None
    band = [series.band[i] for i in kept] if series.band else None
    return Series(series.name, [series.points[i] for i in kept], errors, band)


def _entry(series: Series, *, show_last: bool) -> str:
    return f"{series.name} {number(series.points[-1][1])}" if show_last else series.name


def _note(series: list[Series], *, log: bool) -> str:
    longest = max(len(s.points) for s in series)
    notes = ["logarithmic axis"] if log else []
    if longest > _SMOOTH_FROM:
        thin = (
            "logged values" if longest <= _MAX_POINTS else f"means of {math.ceil(longest / _MAX_POINTS)} logged values"
        )
        notes.append(f"thin: {thin}; thick: their running mean")
    return "; ".join(notes)


def _thin(points: list[Point]) -> list[Point]:
    """Means of neighbours, so that at most `_MAX_POINTS` are drawn."""
    size = math.ceil(len(points) / _MAX_POINTS)
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _running_mean(points: list[Point]) -> list[Point]:
    """Centred; windows shrink towards the ends, so that a steep start is not flattened."""
    n = len(points)
    halves = [min(max(1, n // 16), i, n - 1 - i) for i in range(n)]
    windows = [points[i - half : i + half + 1] for i, half in enumerate(halves)]
    return [(x, sum(y for _, y in window) / len(window)) for (x, _), window in zip(points, windows, strict=True)]


def _frame(series: list[Series], rules: list[Rule]) -> _Frame:
    xs = [x for s in series for x, _ in s.points] or [0.0, 1.0]
    ys = [y for s in series for _, y in s.points] + [rule.value for rule in rules] or [0.0, 1.0]
    for s in series:
        if s.errors:
            ys += [y + sign * 2 * e for (_, y), e in zip(s.points, s.errors, strict=True) for sign in (-1, 1)]
    ends = [y for s in series for pair in s.band or [] for y in pair]
    low, high = min(ys + ends), max(ys + ends)
    high = high if high - low > _EQUAL * abs(high) else low
    positive = [y for s in series for _, y in s.points] + [rule.value for rule in rules] + ends
    if positive and min(positive) > 0 and max(positive) / min(positive) > _LOG_FROM:
        return _Frame((min(xs), max(xs)), (min(positive) / 1.3, max(positive) * 1.3), log_y=True)
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    bottom = 0.0 if 0 <= low < 0.4 * high else low - margin  # a loss near its floor is not cut off from 0
    return _Frame((min(xs), max(xs)), (bottom, high + margin), log_y=False)


def _grid(frame: _Frame, x_label: str) -> Markup:
    values = log_ticks(*frame.y_range) if frame.log_y else ticks(*frame.y_range)
    parts = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="tick" x="{}" y="{}">{}</text>').format(
            _LEFT, WIDTH - _RIGHT, frame.y(v), frame.y(v), _LEFT - 6, frame.y(v) + 4, tick_label(v)
        )
        for v in values
    ]
    base = HEIGHT - _BOTTOM
    parts += [
        Markup('<text class="tick x" x="{}" y="{}">{}</text>').format(frame.x(v), base + 15, tick_label(v))
        for v in ticks(*frame.x_range)
    ]
    parts.append(Markup('<text class="axis" x="{}" y="{}">{}</text>').format(WIDTH - _RIGHT, HEIGHT - 3, x_label))
    return Markup("").join(parts)


def _rule(frame: _Frame, rule: Rule, index: int) -> Markup:
    at = frame.y(rule.value)
    return Markup('<line class="rule r{}" x1="{}" x2="{}" y1="{}" y2="{}"><title>{}</title></line>').format(
        index, _LEFT, WIDTH - _RIGHT, at, at, f"{rule.name}: {number(rule.value)}"
    )


def _line(frame: _Frame, series: Series, index: int) -> Markup:
    if len(series.points) > _SMOOTH_FROM:
        raw, mean = _path(frame, series.points), _path(frame, _running_mean(series.points))
        return Markup('<path class="raw s{}" d="{}"/><path class="line s{}" d="{}"/>').format(index, raw, index, mean)
    parts = [
        _band(frame, series, index),
        Markup('<path class="line s{}" d="{}"/>').format(index, _path(frame, series.points)),
    ]
    errors = series.errors or [0.0] * len(series.points)
    for (x, y), error in zip(series.points, errors, strict=True):
        text = f"{series.name} at {number(x)}: {number(y)}"
        if error:
            bar = Markup('<line class="bar s{}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
            parts.append(bar.format(index, frame.x(x), frame.x(x), frame.y(y - 2 * error), frame.y(y + 2 * error)))
        dot = Markup('<circle class="dot s{}" cx="{}" cy="{}" r="3.5"><title>{}</title></circle>')
        parts.append(dot.format(index, frame.x(x), frame.y(y), text))
    return Markup("").join(parts)


def _band(frame: _Frame, series: Series, index: int) -> Markup:
    if not series.band:
        return Markup("")
    xs = [x for x, _ in series.points]
    lower = [(x, low) for x, (low, _) in zip(xs, series.band, strict=True)]
    upper = [(x, high) for x, (_, high) in zip(xs, series.band, strict=True)]
    return Markup('<path class="band s{}" d="{}Z"/>').format(index, _path(frame, lower + upper[::-1]))


def _path(frame: _Frame, points: list[Point]) -> Markup:
    return escape("M" + "L".join(f"{frame.x(x):g} {frame.y(y):g}" for x, y in points)) if points else Markup("")
