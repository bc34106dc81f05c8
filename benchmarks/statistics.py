"""Figures over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats
from sklearn.isotonic import IsotonicRegression

_LEVEL = 0.975  # two-sided 95 %
_SCORES = 100  # at which the steps of two curves are compared


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


def steps_saved(
    steps: Sequence[int], plain: Sequence[float], other: Sequence[float], *, higher_is_better: bool = True
) -> float | None:
    """Share of the steps that `other` saves against `plain` on the way to the same score, over all scores of both.

    Each curve is made monotone (isotonic regression); at evenly spaced scores that both reach, the geometric mean of
    the ratio of their steps. No threshold is chosen. None where no score is common to both. Negative: it takes more.
    """
    ours, theirs = (_rising(steps, scores, 1 if higher_is_better else -1) for scores in (other, plain))
    low, high = max(ours[0][0], theirs[0][0]), min(ours[0][-1], theirs[0][-1])
    if low >= high:
        return None
    scores = np.linspace(low, high, _SCORES)
    ratios = np.log(np.interp(scores, *ours)) - np.log(np.interp(scores, *theirs))
    return 1 - math.exp(float(ratios.mean()))


def _rising(
    steps: Sequence[int], scores: Sequence[float], sign: int
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """The monotone curve as distinct scores and the mean step of each."""
    fitted = IsotonicRegression().fit_transform(steps, sign * np.array(scores))
    levels, block = np.unique(fitted, return_inverse=True)
    return levels, np.bincount(block, weights=steps) / np.bincount(block)
