"""How many steps one run saves against another on the way to the same score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.optimize import isotonic_regression
from scipy.stats import kendalltau

_LEVEL = 0.05
_SCORES = 100  # at which the steps of two curves are compared


def steps_saved(
    steps: Sequence[int], plain: Sequence[float], other: Sequence[float], *, higher_is_better: bool = True
) -> float | None:
    """Share of the steps that `other` saves against `plain`, over all scores that both reach.

    Each curve is made monotone (isotonic regression), so that a slip on the way does not count; at evenly spaced scores
    between the higher of the two beginnings and the lower of the two ends, the geometric mean of the ratio of their
    steps. No threshold is chosen. Below 0 `other` takes more steps. None where no score is common to both, or one of
    them does not rise beyond noise (Kendall's tau, one-sided, 5 %).

    Args:
        steps: evaluated steps, rising, 1 or more.
        plain: a score a step.
        other: likewise, at the same steps.
        higher_is_better: False for errors such as MSE.
    """
    sign = 1 if higher_is_better else -1
    if not all(_rises(steps, sign * np.array(scores)) for scores in (plain, other)):
        return None
    ours, theirs = _rising(steps, sign * np.array(other)), _rising(steps, sign * np.array(plain))
    low, high = max(ours[0][0], theirs[0][0]), min(ours[0][-1], theirs[0][-1])
    if low >= high:
        return None
    scores = np.linspace(low, high, _SCORES)
    ratios = np.log(np.interp(scores, *ours)) - np.log(np.interp(scores, *theirs))
    return 1 - math.exp(float(ratios.mean()))


def _rises(steps: Sequence[int], scores: Float64[np.ndarray, " n"]) -> bool:
    return bool(kendalltau(steps, scores, alternative="greater").pvalue < _LEVEL)


def _rising(
    steps: Sequence[int], scores: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """The monotone curve as distinct scores and the mean step of each."""
    levels, block = np.unique(isotonic_regression(scores).x, return_inverse=True)
    return levels, np.bincount(block, weights=steps) / np.bincount(block)
