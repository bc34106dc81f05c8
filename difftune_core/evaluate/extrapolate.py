"""FID at infinitely many images (Chong and Forsyth 2020).

FID of N images is too high by about c / N, with a c of each model's own, so that two models may change places from one
N to another. The same images are judged at several N: the line through FID over 1 / N ends at the unbiased value.
Here both sides are thinned by the same share (the paper keeps the reference whole), because references are small too.
Shapes: n, m images, d features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from difftune_core.evaluate.frechet import Estimate, Moments, frechet_distance, frechet_estimate, moments_of
from difftune_core.hooks import TaskError

IMAGES_A_FEATURE = 2
"""Images per feature from which FID is near enough to a line in 1 / N, in the smallest part."""
_GROUPS = 6
_SIZES = (3, 4, 5, 6)  # groups of a part


@dataclass(frozen=True)
class Extrapolation:
    """The unbiased value with its error, and the bias of FID at the full number of images."""

    estimate: Estimate
    bias: float


def frechet_infinity(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, full: Estimate | None = None, seed: int = 0
) -> Extrapolation:
    """Squared Fréchet distance at infinitely many images.

    Parts of one size cover every image equally often. To first order, then, all points of the line err alike, as FID
    of the whole does; what they do not share shows in their distances from the line. The error joins both.

    Args:
        x: features of one side.
        y: features of the other.
        full: `frechet_estimate(x, y)` where it is known already.
        seed: which images go into which part.

    Raises:
        TaskError: `too_few_images`, `not_finite`.
    """
    least = math.ceil(IMAGES_A_FEATURE * x.shape[1] * _GROUPS / min(_SIZES))
    if min(len(x), len(y)) < least:
        raise TaskError(
            "too_few_images",
            f"FID-infinity needs at least {least} images on each side for {x.shape[1]} features: FID of fewer falls "
            "faster than 1 / N and the line ends too low",
        )
    full = full or frechet_estimate(x, y)
    rng = np.random.default_rng(seed)
    sides = [[moments_of(z[part]) for part in np.array_split(rng.permutation(len(z)), _GROUPS)] for z in (x, y)]
    points = [np.mean([_distance(sides, window) for window in _windows(size)]) for size in _SIZES]
    intercept, slope, se = _line(np.array([_GROUPS / size for size in _SIZES]), np.array(points))
    method = f"line over {len(points)} sizes; infinitesimal jackknife and residuals"
    return Extrapolation(Estimate(intercept, math.hypot(full.se, se), method), slope)


def _windows(size: int) -> list[list[int]]:
    """The fewest runs of `size` groups around the circle as hold every group equally often."""
    starts = range(0, _GROUPS, math.gcd(size, _GROUPS))
    return [[(start + i) % _GROUPS for i in range(size)] for start in starts]


def _distance(sides: list[list[Moments]], window: list[int]) -> float:
    a, b = (_merged([groups[i] for i in window]) for groups in sides)
    return frechet_distance(a, b)


def _merged(parts: list[Moments]) -> Moments:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    return whole


def _line(inverse: Float[np.ndarray, " p"], values: Float[np.ndarray, " p"]) -> tuple[float, float, float]:
    """Intercept, slope, and the intercept's standard error by least squares."""
    design = np.stack([np.ones_like(inverse), inverse], axis=1)
    (intercept, slope), *_ = np.linalg.lstsq(design, values, rcond=None)
    left = values - design @ np.array([intercept, slope])
    variance = left @ left / (len(values) - 2) * np.linalg.inv(design.T @ design)[0, 0]
    return float(intercept), float(slope), math.sqrt(variance)
