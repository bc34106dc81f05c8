"""Numbers as people read them."""

from __future__ import annotations

import math

Number = int | float  # read from JSON, where 5 is a whole number

_PLAIN = (1e-4, 1e6)  # outside of these, powers of ten
_NOTHING = 1e-12  # what is nearer to 0 is what rounding leaves of it: no figure of ours is as small
_ROUNDING = 1e-6  # of a value: a smaller error is what rounding leaves of equal values


def number(value: Number | None, digits: int = 4) -> str:
    """`digits` significant digits, thousands separated; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if size < _NOTHING:
        return "0"
    if not _PLAIN[0] <= size < _PLAIN[1]:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"


def with_error(value: Number | None, se: Number | None) -> str:
    """`12.34 ± 0.56`, as many decimals as two digits of the error need; no error where it is one of rounding alone."""
    if value is None or not se or not math.isfinite(se) or not math.isfinite(value):
        return number(value)
    if abs(se) < max(_NOTHING, _ROUNDING * abs(value)):
        return number(value)
    decimals = 1 - math.floor(math.log10(abs(se)))
    if not _PLAIN[0] <= abs(se) < _PLAIN[1] or decimals < 0:
        return f"{number(value)} \u00b1 {number(se, 2)}"
    return f"{value:,.{decimals}f} \u00b1 {se:,.{decimals}f}"


def ticks(low: Number, high: Number, count: int = 5) -> list[Number]:
    """About `count` round values (1, 2 or 5 times a power of ten) within [low, high]."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: Number, high: Number) -> list[Number]:
    """1, 2, 5 times powers of ten within [low, high]; powers of ten alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 3 else (1,)  # noqa: PLR2004  about eight ticks at most
    return [m * 10.0**p for p in powers for m in factors if low * 0.999 <= m * 10.0**p <= high * 1.001]


def tick_label(value: Number) -> str:
    """Short: `0.5`, `200`, `10k`."""
    if abs(value) >= 10_000:  # noqa: PLR2004  five digits
        return f"{value / 1000:g}k"
    return f"{value:.6g}"
