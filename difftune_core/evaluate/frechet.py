"""The Fréchet distance between two Gaussians fitted to features (Dowson and Landau 1982; FID: Heusel et al. 2017).

d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), all in float64. The trace of the root is never taken of the
unsymmetric product: with S1 = L L^T it is the sum of the roots of the eigenvalues of L^T S2 L, at any rank.
Shapes: n, m images, d features.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from difftune_core.hooks import TaskError

MIN_IMAGES = 2
_GROUPS = 20
_REGULAR = 2  # images per feature from which the covariance is well enough conditioned to be differentiated
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter (sum of outer products of centred features). Batches merge exactly."""

    n: int
    mean: Float64[np.ndarray, " d"]
    scatter: Float64[np.ndarray, "d d"]

    @property
    def cov(self) -> Float64[np.ndarray, "d d"]:
        """Unbiased covariance."""
        return self.scatter / (self.n - 1)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan, Golub and LeVeque 1983, eq. 2.1)."""
        n = self.n + other.n
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, self.mean + step * (other.n / n), scatter)


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error, its 95 % normal interval, and how the error was found."""

    value: float
    se: float
    method: str

    @property
    def interval(self) -> tuple[float, float]:
        """Value +- 1.96 standard errors; not cut at 0."""
        return self.value - _NORMAL_95 * self.se, self.value + _NORMAL_95 * self.se


def moments_of(features: Float[np.ndarray, "n d"]) -> Moments:
    """Moments of one batch."""
    x = features.astype(np.float64)
    mean = x.mean(axis=0)
    return Moments(len(x), mean, (x - mean).T @ (x - mean))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance between the Gaussians of `a` and `b`.

    Raises:
        TaskError: `too_few_images` for fewer than two images, `not_finite` for features that are no numbers.
    """
    _check(a, b)
    root = _root(a)
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(root.T @ b.cov @ root), 0, None)).sum()
    return _distance(a, b, float(overlap))


def frechet_of_features(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """The Fréchet distance from the features themselves, by whichever exact path is cheaper.

    With centred A, B the trace of the root is the nuclear norm of A B^T / sqrt((n - 1) (m - 1)): for few images of
    many features no d x d matrix is decomposed.
    """
    a, b = moments_of(x), moments_of(y)
    if min(a.n, b.n) ** 2 * max(a.n, b.n) >= len(a.mean) ** 3:
        return frechet_distance(a, b)
    _check(a, b)
    cross = (x - a.mean) @ (y - b.mean).T
    overlap = np.linalg.svd(cross, compute_uv=False).sum() / np.sqrt((a.n - 1.0) * (b.n - 1.0))
    return _distance(a, b, float(overlap))


def frechet_estimate(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Estimate:
    """The distance with its standard error over the choice of images.

    The error covers sampling noise, not FID's bias: with few images the value itself is too high. From twice as many
    images as features on it is the infinitesimal jackknife, below that a jackknife over groups of images.
    """
    if min(len(x), len(y)) >= max(_REGULAR * x.shape[1], MIN_IMAGES):
        return _regular_estimate(x, y)
    return Estimate(frechet_of_features(x, y), _group_error(x, y), f"jackknife over {_GROUPS} groups of images")


def frechet_difference(
    real: Float[np.ndarray, "n d"], before: Float[np.ndarray, "m d"], after: Float[np.ndarray, "m d"]
) -> Estimate:
    """Distance of `after` to `real` less that of `before`, where image i of both came of the same noise.

    What the pairs and the real images have in common cancels, so the error is below that of two distances apart.
    """
    value = frechet_of_features(real, after) - frechet_of_features(real, before)
    if min(len(real), len(after)) >= max(_REGULAR * real.shape[1], MIN_IMAGES):
        _, of_real, of_before = _influences(real, before)
        _, still_of_real, of_after = _influences(real, after)
        return Estimate(value, _mean_error(still_of_real - of_real, of_after - of_before), "infinitesimal jackknife")
    return Estimate(value, _paired_group_error(real, before, after), f"jackknife over {_GROUPS} groups of pairs")


def _check(a: Moments, b: Moments) -> None:
    if min(a.n, b.n) < MIN_IMAGES:
        raise TaskError("too_few_images", f"a Fréchet distance needs at least {MIN_IMAGES} images on each side")
    if not all(np.isfinite(part).all() for m in (a, b) for part in (m.mean, m.scatter)):
        raise TaskError("not_finite", "features hold NaN or infinity")


def _distance(a: Moments, b: Moments, overlap: float) -> float:
    step = a.mean - b.mean
    squared = step @ step + np.trace(a.cov) + np.trace(b.cov) - 2 * overlap
    return max(0.0, float(squared))  # rounding leaves about -1e-13 of the traces for equal sets


def _root(moments: Moments) -> Float64[np.ndarray, "d d"]:
    """L with S = L L^T: by Cholesky, which takes a fifth of the time, where S is surely of full rank."""
    cov = moments.cov
    root: Float64[np.ndarray, "d d"]
    if moments.n > len(cov):
        with suppress(np.linalg.LinAlgError):
            root = np.linalg.cholesky(cov)
            pivots = np.diag(root) ** 2
            if pivots.min() > pivots.max() * len(cov) * np.finfo(np.float64).eps:
                return root
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    return root


def _spectrum(cov: Float64[np.ndarray, "d d"]) -> tuple[Float64[np.ndarray, "d r"], Float64[np.ndarray, " r"]]:
    """V and s with S = V diag(s^2) V^T, over the r directions that S spans."""
    values, vectors = np.linalg.eigh(cov)
    spanned = values > values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, spanned], np.sqrt(values[spanned])


def _regular_estimate(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Estimate:
    value, of_x, of_y = _influences(x, y)
    return Estimate(value, _mean_error(of_x, of_y), "infinitesimal jackknife")


def _influences(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> tuple[float, Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]]:
    """The distance and the first-order effect of each image on it: d tr((S1 S2)^(1/2)) / d S2 = T / 2.

    T transports the second Gaussian to the first: with S1 = L L^T, T = L (L^T S2 L)^(-1/2) L^T takes N(0, S2) to
    N(0, S1), and its inverse is the way back (Bhatia, Jain and Lim 2019, section 3).
    """
    a, b = moments_of(x), moments_of(y)
    value = frechet_distance(a, b)
    v, s = _spectrum(a.cov)
    root, inverse = v * s, v / s
    u, w = _spectrum(root.T @ b.cov @ root)
    to_a = root @ (u / w) @ u.T @ root.T
    to_b = inverse @ (u * w) @ u.T @ inverse.T
    step = a.mean - b.mean
    return value, _side_influence(x, a, step, to_b), _side_influence(y, b, -step, to_a)


def _side_influence(
    x: Float[np.ndarray, "n d"],
    moments: Moments,
    step: Float64[np.ndarray, " d"],
    transport: Float64[np.ndarray, "d d"],
) -> Float64[np.ndarray, " n"]:
    """Influence of one side's images: 2 step (x - m) + (x - m)^T (I - T) (x - m)."""
    centred = x - moments.mean
    effect: Float64[np.ndarray, " n"]
    effect = 2 * centred @ step + np.einsum("nd,nd->n", centred, centred - centred @ transport)
    return effect


def _mean_error(*influences: Float64[np.ndarray, " _"]) -> float:
    """Standard error of a sum of means over independent sets."""
    return float(np.hypot.reduce([effect.std(ddof=1) / np.sqrt(len(effect)) for effect in influences]))


def _group_error(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    if min(len(x), len(y)) <= MIN_IMAGES:
        return float("nan")  # with one image left out no distance is left
    of_x = [frechet_of_features(np.delete(x, group, axis=0), y) for group in _groups(len(x))]
    of_y = [frechet_of_features(x, np.delete(y, group, axis=0)) for group in _groups(len(y))]
    return float(np.sqrt(sum((len(values) - 1) * np.var(values) for values in (of_x, of_y))))


def _groups(size: int) -> list[Int64[np.ndarray, " g"]]:
    """Disjoint groups to leave out in turn."""
    return np.array_split(np.random.default_rng(0).permutation(size), min(_GROUPS, size))


def _paired_group_error(
    real: Float[np.ndarray, "n d"], before: Float[np.ndarray, "m d"], after: Float[np.ndarray, "m d"]
) -> float:
    if min(len(real), len(after)) <= MIN_IMAGES:
        return float("nan")
    of_real, of_pairs = [], []
    for group in _groups(len(real)):
        rest = np.delete(real, group, axis=0)
        of_real.append(frechet_of_features(rest, after) - frechet_of_features(rest, before))
    for group in _groups(len(after)):
        a, b = np.delete(after, group, axis=0), np.delete(before, group, axis=0)
        of_pairs.append(frechet_of_features(real, a) - frechet_of_features(real, b))
    return float(np.sqrt(sum((len(values) - 1) * np.var(values) for values in (of_real, of_pairs))))
