"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), from nearest neighbours.

A set's manifold is the union of balls around its features, each as wide as the distance to the k-th nearest other one.
Errors are jackknives over groups of images on each side, with the radii taken anew without each group, for a binomial
error would take the manifold as given. A jackknife is 0 where a share is 0 or 1, so intervals of shares are never
narrower than Wilson's. Distances are taken in chunks: no n x m matrix is held.
Shapes: n, m images, d features, g groups, b images of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from difftune_core.evaluate.frechet import Estimate
from difftune_core.hooks import TaskError

MIN_IMAGES = 100
PRECISION_K = 3
COVERAGE_K = 5
_GROUPS = 20
_CHUNK_ENTRIES = 1 << 22  # distances held at once: 32 MiB
_ROUNDING = 1e-12  # of the largest squared length: distances of equal features come out as this, not as 0
_Z = 1.959964
_METHOD = f"jackknife over {_GROUPS} groups of images on each side"


@dataclass(frozen=True)
class Share(Estimate):
    """A share of `count` images, with an interval that is never narrower than Wilson's."""

    count: int

    @property
    def interval(self) -> tuple[float, float]:
        """The wider of value +- 1.96 standard errors and Wilson's (1927) interval on each side, within 0 and 1."""
        n, p = self.count, self.value
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, min(p - _Z * self.se, middle - half)), min(1.0, max(p + _Z * self.se, middle + half))


@dataclass(frozen=True)
class Manifold:
    """A feature set in the order of its groups, with the squared radius of each ball."""

    features: Float64[np.ndarray, "n d"]
    group_of: Int64[np.ndarray, " n"]
    radii: Float64[np.ndarray, " n"]
    radii_without: Float64[np.ndarray, "g n"]
    """Radii without each group in turn, (group, image); meaningless for the group's own images."""


def precision_recall(
    real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"], *, k: int = PRECISION_K
) -> tuple[Share, Share]:
    """Share of `fake` inside the manifold of `real`, and share of `real` inside that of `fake`.

    Raises:
        TaskError: `too_few_images`, `not_finite`.
    """
    real_balls, fake_balls = _manifolds("precision and recall", real, fake, k)
    return _inside(fake_balls, real_balls), _inside(real_balls, fake_balls)


def density_coverage(
    real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"], *, k: int = COVERAGE_K
) -> tuple[Estimate, Share]:
    """Return how many real balls hold an image of `fake`, over k; and the share of real balls that hold any.

    Density is 1 on average for equal laws and may pass it; it forgives outliers of `real`, as coverage does.

    Raises:
        TaskError: `too_few_images`, `not_finite`.
    """
    balls, judged = _manifolds("density and coverage", real, fake, k)
    held, held_without, nearest = (
        np.zeros(len(fake)),
        np.zeros((_GROUPS, len(fake))),
        np.full((_GROUPS, len(real)), np.inf),
    )
    for rows, squared in chunks(judged.features, balls.features):
        held[rows] = (squared <= balls.radii).sum(axis=1)
        for g in range(_GROUPS):
            others = balls.group_of != g
            held_without[g, rows] = ((squared <= balls.radii_without[g]) & others).sum(axis=1)
            own = judged.group_of[rows] == g
            nearest[g] = np.minimum(nearest[g], squared[own].min(axis=0, initial=np.inf))
    covered = nearest.min(axis=0) <= balls.radii
    without_fake = [np.delete(nearest, g, axis=0).min(axis=0) <= balls.radii for g in range(_GROUPS)]
    without_real = [(nearest.min(axis=0) <= balls.radii_without[g])[balls.group_of != g] for g in range(_GROUPS)]
    density_se = _jackknife(held_without.mean(axis=1) / k, _leave_out(held / k, judged.group_of))
    coverage_se = _jackknife(_means(without_fake), _means(without_real))
    density = Estimate(float(held.mean() / k), density_se, _METHOD)
    return density, Share(float(covered.mean()), coverage_se, _METHOD, len(real))


def _manifolds(
    what: str, real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"], k: int
) -> tuple[Manifold, Manifold]:
    if min(len(real), len(fake)) < MIN_IMAGES:
        raise TaskError(
            "too_few_images",
            f"{what} need at least {MIN_IMAGES} images on each side: balls of few reach far outside the manifold: "
            "shares come out too high, and intervals are wider than 0.2",
        )
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise TaskError("not_finite", "features hold NaN or infinity")
    centre = real.mean(axis=0, dtype=np.float64)  # shorter vectors lose fewer digits in their distances
    return manifold(real - centre, k), manifold(fake - centre, k)


def manifold(x: Float[np.ndarray, "n d"], k: int) -> Manifold:
    """Balls around all of `x`, also without each group of images."""
    order = np.random.default_rng(0).permutation(len(x))
    features = x[order].astype(np.float64)
    parts = np.array_split(np.arange(len(x)), _GROUPS)
    group_of = np.repeat(np.arange(_GROUPS), [len(part) for part in parts])
    radii, without = np.empty(len(x)), np.empty((_GROUPS, len(x)))
    slack = _ROUNDING * np.einsum("nd,nd->n", features, features).max()
    for rows, squared in chunks(features, features):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.start + len(squared))] = np.inf
        near, labels = _nearest(squared, parts, k)
        radii[rows] = near[:, k - 1] + slack
        for g in range(_GROUPS):
            kth = ((labels != g).cumsum(axis=1) == k).argmax(axis=1)
            without[g, rows] = near[np.arange(len(near)), kth] + slack
    return Manifold(features, group_of, radii, without)


def _nearest(
    squared: Float64[np.ndarray, "b n"], parts: list[Int64[np.ndarray, " _"]], k: int
) -> tuple[Float64[np.ndarray, "b c"], Int64[np.ndarray, "b c"]]:
    """The 2k nearest, of which no group has more than k, in order, with their groups: k are left without any group."""
    candidates, groups = [], []
    for g, part in enumerate(parts):
        taken = min(k, len(part))
        candidates.append(np.partition(squared[:, part[0] : part[-1] + 1], taken - 1, axis=1)[:, :taken])
        groups.append(np.full(taken, g))
    near, labels = np.concatenate(candidates, axis=1), np.concatenate(groups)
    order = near.argsort(axis=1)[:, : 2 * k]
    return np.take_along_axis(near, order, axis=1), labels[order]


def _inside(judged: Manifold, balls: Manifold) -> Share:
    inside = np.empty(len(judged.features), bool)
    without = np.empty((_GROUPS, len(inside)), bool)
    for rows, squared in chunks(judged.features, balls.features):
        inside[rows] = (squared <= balls.radii).any(axis=1)
        for g in range(_GROUPS):
            without[g, rows] = ((squared <= balls.radii_without[g]) & (balls.group_of != g)).any(axis=1)
    se = _jackknife(without.mean(axis=1), _leave_out(inside, judged.group_of))
    return Share(float(inside.mean()), se, _METHOD, len(inside))


def chunks(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Iterator[tuple[slice, Float64[np.ndarray, "b m"]]]:
    """Squared distances of some rows of `x` at a time to all of `y`."""
    rows = max(1, _CHUNK_ENTRIES // len(y))
    of_x, of_y = np.einsum("nd,nd->n", x, x), np.einsum("nd,nd->n", y, y)
    for i in range(0, len(x), rows):
        part = slice(i, i + rows)
        yield part, of_x[part, None] + of_y - 2 * x[part] @ y.T


def _means(parts: list[Bool[np.ndarray, " _"]]) -> Float64[np.ndarray, " g"]:
    return np.array([part.mean() for part in parts])


def _leave_out(values: np.ndarray, group_of: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " g"]:
    """The mean of `values` without each group."""
    return np.array([values[group_of != g].mean() for g in range(_GROUPS)])


def _jackknife(*sides: Float64[np.ndarray, " g"]) -> float:
    return float(np.sqrt(sum((_GROUPS - 1) * side.var() for side in sides)))
