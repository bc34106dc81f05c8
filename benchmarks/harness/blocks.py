"""Work timed side by side: blocks A B A B in one process tree, so that both sides see the same machine.

Free of torch: what must be waited for on a device is a side's own business.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

_RESAMPLES = 2000
_OUTSIDE = 0.025
"""Share of the resampled ratios that lie below the interval, and above it: 95 % are within."""
MIN_BLOCKS = 3
"""Fewer blocks have no interval to speak of."""
Clock = Callable[[], float]


def _nothing() -> None:
    return


@dataclass(frozen=True)
class Side:
    """One of two ways to do the same."""

    name: str
    work: Callable[[], object]
    """One call of the way."""
    units: float = 1.0
    """What a call does, in images, steps or whatever is compared."""
    settle: Callable[[], object] = _nothing
    """Waits for the device, once a block."""
    most_calls: int | None = None
    """Calls of a block at most."""

    def timed(self, calls: int, clock: Clock = time.perf_counter) -> float:
        """Seconds of a unit, over so many calls."""
        self.settle()
        begin = clock()
        for _ in range(calls):
            self.work()
        self.settle()
        return (clock() - begin) / (calls * self.units)


@dataclass(frozen=True)
class Comparison:
    """Seconds of a unit of both sides, by block; blocks of the same place followed each other."""

    names: tuple[str, str]
    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times as long the first side takes: by the medians."""
        return _ratio(list(zip(self.first, self.second, strict=True)))

    @property
    def interval(self) -> tuple[float, float]:
        """The ratio's 95 % interval: the bootstrap's, over pairs of blocks."""
        pairs = list(zip(self.first, self.second, strict=True))
        draw = random.Random(0)  # noqa: S311  # no secret
        found = sorted(_ratio(draw.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
        outside = int(_OUTSIDE * _RESAMPLES)
        return found[outside], found[-1 - outside]

    @property
    def seconds(self) -> dict[str, float]:
        """Median seconds of a unit by side."""
        return {
            name: statistics.median(found) for name, found in zip(self.names, (self.first, self.second), strict=True)
        }

    @property
    def worst(self) -> dict[str, float]:
        """The slowest block's seconds of a unit by side."""
        return {name: max(found) for name, found in self._by_name()}

    def _by_name(self) -> list[tuple[str, tuple[float, ...]]]:
        return list(zip(self.names, (self.first, self.second), strict=True))


def alternate(
    first: Side,
    second: Side,
    *,
    blocks: int = 5,
    block_s: float = 1.0,
    within_s: float = math.inf,
    warm_ups: int = 1,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """Time both sides in turn.

    Args:
        first: what is compared with.
        second: what is compared.
        blocks: of each side.
        block_s: a block has as many calls as take about so long, at least one.
        within_s: begin no further pair of blocks after so many seconds, but for the first `MIN_BLOCKS`.
        warm_ups: calls of each side before anything counts.
        clock: `time.process_time` for what computes in this process alone and waits for nothing: others at work on
            the machine disturb it less.
    """
    begin = time.perf_counter()
    calls = [_calls_of(side, block_s, warm_ups) for side in (first, second)]
    found: list[tuple[float, float]] = []
    while len(found) < blocks:
        if len(found) >= MIN_BLOCKS and time.perf_counter() - begin > within_s:
            break
        found.append((first.timed(calls[0], clock), second.timed(calls[1], clock)))
    return Comparison((first.name, second.name), *(tuple(side) for side in zip(*found, strict=True)))


def _calls_of(side: Side, block_s: float, warm_ups: int) -> int:
    took = [side.timed(1) * side.units for _ in range(max(1, warm_ups))]
    calls = max(1, round(block_s / max(took[-1], 1e-9)))
    return calls if side.most_calls is None else min(calls, side.most_calls)


def _ratio(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
