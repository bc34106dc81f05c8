"""What is claimed of a measurement, what guards it, and whether it keeps its bar. No guard, no claim."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.blocks import Comparison


@dataclass(frozen=True)
class Guard:
    """Both sides do the same: how that was looked at, and what was found."""

    how: str
    held: bool
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bar:
    """What a figure is to keep."""

    at_least: float | None = None
    at_most: float | None = None

    def kept_by(self, value: float) -> bool:
        """Return whether a figure keeps the bar."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True)
class Claim:
    """A figure with what it is worth."""

    name: str
    value: float
    means: str
    """What the figure is a ratio of."""
    bar: Bar | None = None
    guard: Guard | None = None
    comparison: Comparison | None = None
    inverse: bool = False
    """Whether `value` is second by first: the comparison's interval is turned over with it."""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the figure's guard has held, and its bar is kept behind one; what is only told is always right."""
        if self.guard is None:
            return self.bar is None
        return self.guard.held and (self.bar is None or self.bar.kept_by(self.value))

    def told(self) -> dict[str, Any]:
        """The fields of the claim's line."""
        fields: dict[str, Any] = {"benchmark": self.name, "value": _short(self.value), "means": self.means}
        if self.comparison is not None:
            low, high = self.comparison.interval
            ends = (1 / high, 1 / low) if self.inverse else (low, high)
            fields |= {
                "interval": [_short(end) for end in ends],
                "blocks": len(self.comparison.first),
                "seconds": {name: _short(took) for name, took in self.comparison.seconds.items()},
                "worst_seconds": {name: _short(took) for name, took in self.comparison.worst.items()},
            }
        if self.bar is not None:
            fields["bar"] = {name: end for name, end in vars(self.bar).items() if end is not None}
        if self.guard is not None:
            fields["guard"] = {"how": self.guard.how, "held": self.guard.held, **self.guard.found}
        return {**fields, **self.details, "ok": self.ok}


def faster(name: str, comparison: Comparison, **more: Any) -> Claim:
    """Claim how many times as fast the second side is as the first."""
    means = "times as fast: {} by {}".format(*comparison.names)
    return Claim(name, comparison.ratio, means, comparison=comparison, **more)


def share(name: str, comparison: Comparison, **more: Any) -> Claim:
    """Claim the time of the second side as a share of the first one's."""
    means = "share of time: {1} by {0}".format(*comparison.names)
    return Claim(name, 1 / comparison.ratio, means, comparison=comparison, inverse=True, **more)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
