"""How much of what is drawn is copied: generated images beside the training images and beside held-out ones.

An image is taken for a copy-like one where its nearest neighbour among the training images is nearer than that among as
many held-out images: half of the images are, where nothing is copied, and all where everything is. Distances are those
of features and, apart, of small pictures. Distances are taken in chunks: no n x m matrix is held.
Shapes: m generated, n training, h held-out images, d features or values of a small picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from difftune_core.evaluate.frechet import Estimate, frechet_estimate
from difftune_core.evaluate.neighbours import Share, chunks
from difftune_core.hooks import TaskError

MOST_IMAGES = 10_000
"""Training images that are looked at, spread evenly over all of them and so over their classes."""
FEWEST_IMAGES = 20
"""Training, held-out and generated images below which a share says nothing."""
_MOST_COMPARED = 5000
_MOST_GROUPS = 8
SIDE = 16
"""Fields of a small picture on each side."""
_BEGUN = 0.55


@dataclass(frozen=True)
class Seen:
    """A set of images as copies are looked for in it."""

    features: Float32[np.ndarray, "n d"]
    pictures: Float32[np.ndarray, "n p"]

    def rows(self, chosen: Any) -> Seen:
        """Return some of the images."""
        return Seen(self.features[chosen], self.pictures[chosen])


def small_pictures(images: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n p"]:
    """Means over a grid of 16 x 16 fields, or the pixels themselves of smaller images, as values from 0 to 1."""
    n, side = images.shape[:2]
    grid = min(SIDE, side)
    edges = np.arange(grid) * side // grid
    sums = np.add.reduceat(np.add.reduceat(images.astype(np.float32), edges, axis=1), edges, axis=2)
    width = np.diff([*edges, side])
    means: np.ndarray = (sums / (255 * width[:, None] * width)[..., None]).reshape(n, -1)
    return means.astype(np.float32)


def copying(training: Seen, held_out: Seen, drawn: Seen, *, seed: int = 0, total: int | None = None) -> dict[str, Any]:
    """Give the figures of copying, each with its error: FID to the training images, and the shares of copies.

    Where there are too few images for one it is None. What is among `warnings` says that copying has begun.

    Args:
        training: images that were trained on.
        held_out: images of the same kind that were not.
        drawn: generated images.
        seed: of the choice of as many held-out images.
        total: training images that there are; `training` may be a part.
    """
    result = {"num_train": len(training.features)} | _fields("train_fid", _distance(training, drawn))
    shares = {
        "copies": share_of_copies(training.features, held_out.features, drawn.features, seed=seed),
        "pixel_copies": share_of_copies(training.pictures, held_out.pictures, drawn.pictures, seed=seed),
    }
    for name, share in shares.items():
        result |= _fields(name, share)
    found = shares["copies"]
    if found is not None and has_begun(found.interval):
        of = "" if total in {None, len(training.features)} else f" ({len(training.features)} of {total} were compared)"
        told = (
            f"{100 * found.value:.0f} % of the generated images are nearer to a training image than to any of as many"
        )
        result["warnings"] = [f"copying has begun: {told} held-out ones{of}, where 50 % is chance"]
    return result


def has_begun(interval: Sequence[float] | None) -> bool:
    """Return whether so many images are copy-like that chance does not explain it: the interval lies above 55 %."""
    return interval is not None and interval[0] > _BEGUN


def share_of_copies(
    training: Float32[np.ndarray, "n d"],
    held_out: Float32[np.ndarray, "h d"],
    drawn: Float32[np.ndarray, "m d"],
    *,
    seed: int = 0,
) -> Share | None:
    """Share of drawn images whose nearest training image is nearer than the nearest of as many held-out ones.

    Held-out images come in up to eight disjoint groups of as many as there are training images; equal distances count
    half. Where training images are more, as many of them are taken as there are held-out ones. None for too few.
    """
    count = min(len(training), len(held_out), _MOST_COMPARED)
    if min(count, len(drawn)) < FEWEST_IMAGES:
        return None
    stream = np.random.default_rng(seed)
    drawn = drawn[:_MOST_COMPARED]
    chosen = np.arange(count) * len(training) // count
    order = stream.permutation(len(held_out))
    groups = [order[start : start + count] for start in range(0, len(order) - count + 1, count)][:_MOST_GROUPS]
    centre = training.mean(axis=0, dtype=np.float64)  # shorter vectors lose fewer digits in their distances
    of_training = nearest(drawn - centre, training[chosen] - centre)
    parts = []
    for group in groups:
        of_held_out = nearest(drawn - centre, held_out[group] - centre)
        parts.append((np.sign(of_held_out - of_training) + 1) / 2)
    by_group = np.array([part.mean() for part in parts])
    value = float(by_group.mean())
    spread = float(by_group.var(ddof=1) / len(groups)) if len(groups) > 1 else 0.0
    error = float(np.sqrt(value * (1 - value) / len(drawn) + spread))
    return Share(value, error, "over generated images, and over groups of held-out ones", len(drawn))


def nearest(x: Float64[np.ndarray, "m d"], y: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " m"]:
    """Squared distance of each row of `x` to the nearest row of `y`."""
    found = np.empty(len(x))
    for rows, squared in chunks(x, y):
        found[rows] = squared.min(axis=1)
    return found


def repeated(training: Seen, count: int, *, seed: int = 0) -> Seen:
    """Give `count` images as a perfect copier draws them: the training images in turn, each as often as the others."""
    order = np.random.default_rng(seed).permutation(len(training.features))
    return training.rows(order[np.arange(count) % len(order)])


def spread_rows(total: int, most: int = MOST_IMAGES) -> np.ndarray:
    """Places of at most so many images, spread evenly over all."""
    count = min(total, most)
    return np.arange(count) * total // count


def _distance(training: Seen, drawn: Seen) -> Estimate | None:
    try:
        return frechet_estimate(training.features, drawn.features)
    except TaskError as error:
        if error.code != "too_few_images":
            raise
        return None


def _fields(name: str, found: Estimate | None) -> dict[str, Any]:
    if found is None:
        return {name: None, f"{name}_se": None, f"{name}_interval": None}
    return {name: found.value, f"{name}_se": found.se, f"{name}_interval": list(found.interval)}
