"""Means, spreads and paired tests over seeds.

Runs of one seed share data order, timesteps and noise, so differences within a seed are what is tested. Seeds are few:
beside the paired t test, which takes the differences for normal, stands the exact sign-flip test (Fisher 1935), which
takes them for symmetric about zero and no more, and cannot give less than 2 / 2^n with n seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
MAX_EXACT = 20
"""Seeds up to which every assignment of signs is counted."""
_ROUNDING = 1e-12  # of the sum of sizes: an equal sum in another order must count as equal
_EQUAL = 1e-9
"""Share of the values: figures that differ by less are the same figure, summed in another order."""


@dataclass(frozen=True)
class Spread:
    """One figure of one method over seeds."""

    mean: float
    sd: float | None
    """Standard deviation with n - 1; None for one seed."""
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """`second - first` over the seeds that both have."""

    n: int
    difference: float
    """Mean difference."""
    sd: float | None
    """Standard deviation of the differences, with n - 1; None for one seed."""
    interval: tuple[float, float] | None
    """95 % confidence interval of the mean difference by the paired t distribution."""
    p_t: float | None
    """p value of the two-sided, paired t test; None for one seed and where the differences do not vary."""
    p_sign_flip: float | None
    """p value of the two-sided, exact sign-flip test; None for one seed and for more than `MAX_EXACT`."""
    smallest_p: float | None
    """What the sign-flip test can reach at best with this many seeds: 2 / 2^n."""


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and range of at least one value."""
    found = np.asarray(values, np.float64)
    sd = _varying(float(found.std(ddof=1)), found) if len(found) > 1 else None
    return Spread(float(found.mean()), sd, len(found), float(found.min()), float(found.max()))


def paired(first: Float64[np.ndarray, " n"], second: Float64[np.ndarray, " n"]) -> Paired:
    """Compare two methods seed by seed; both arrays are in the order of the seeds, of which there is at least one."""
    both = np.concatenate([first, second])
    differences = np.where(np.abs(second - first) > _EQUAL * np.abs(both).max(), second - first, 0.0)
    n, mean = len(differences), float(differences.mean())
    if n == 1:
        return Paired(1, mean, None, None, None, None, None)
    sd = _varying(float(differences.std(ddof=1)), both)
    error = sd / math.sqrt(n)
    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * error
    p_t = float(2 * stdtr(n - 1, -abs(mean) / error)) if error > 0 else None
    flipped = sign_flip_p(differences) if n <= MAX_EXACT else None
    return Paired(n, mean, sd, (mean - half, mean + half), p_t, flipped, 2.0 ** (1 - n))


def _varying(sd: float, values: Float64[np.ndarray, " n"]) -> float:
    """The standard deviation; 0 where it is what rounding leaves of equal values."""
    return sd if sd > _EQUAL * float(np.abs(values).max()) else 0.0


def sign_flip_p(differences: Float64[np.ndarray, " n"]) -> float:
    """Share of all 2^n assignments of signs whose sum is at least as far from zero as the one that was found."""
    sums = differences[:1]  # the other sign of the first gives the same sums with the other sign
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    found = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()
    return float((np.abs(sums) >= found).mean())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down correction of one family; None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[i] = largest
    return corrected
