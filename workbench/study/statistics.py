"""Figures over seeds."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from scipy import stats

_LEVEL = 0.975  # two-sided 95 %


@dataclass(frozen=True)
class Paired:
    """Mean of paired differences with its 95 % interval by Student's t."""

    mean: float
    low: float
    high: float


def spread(values: list[float | None]) -> dict[str, float] | None:
    """Mean and standard deviation over the seeds that have a figure; None where none has."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return {"mean": round(statistics.mean(known), 4), "sd": round(deviation, 4), "n": len(known)}


def paired(differences: list[float]) -> Paired | None:
    """The mean difference over seeds; None for fewer than two."""
    n = len(differences)
    if n <= 1:
        return None
    mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(n)
    half = float(stats.t.ppf(_LEVEL, n - 1)) * error
    return Paired(mean, mean - half, mean + half)
