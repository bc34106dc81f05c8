"""KID: the unbiased squared maximum mean discrepancy with a cubic kernel (Binkowski et al. 2018).

k(x, y) = (x . y / d + 1)^3. Large sets are cut into disjoint blocks, whose mean is the value and whose spread gives its
standard error; sets smaller than two blocks are taken whole, with a jackknife over images for the error.
Shapes: n, m images, d features, b images of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from difftune_core.hooks import TaskError

BLOCK_SIZE = 1000
MIN_IMAGES = 3  # so that the estimate is still defined with one image left out
_CHUNK = 1024


@dataclass(frozen=True)
class KernelDistance:
    """KID with its standard error. `num_blocks` is 1 where the sets were taken whole."""

    value: float
    se: float
    num_blocks: int
    block_size: int
    method: str


def kernel_distance(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, block_size: int = BLOCK_SIZE, seed: int = 0
) -> KernelDistance:
    """KID of two feature sets; `seed` orders the images before they are cut into blocks.

    Raises:
        TaskError: `too_few_images` for fewer than three images on a side, `not_finite` for features that are none.
    """
    if min(len(x), len(y)) < MIN_IMAGES:
        raise TaskError("too_few_images", f"KID needs at least {MIN_IMAGES} images on each side")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise TaskError("not_finite", "features hold NaN or infinity")
    x, y = x.astype(np.float64), y.astype(np.float64)
    count = min(len(x), len(y)) // block_size
    if count <= 1:
        value, se = _whole(x, y)
        return KernelDistance(value, se, 1, min(len(x), len(y)), "whole set, jackknife over images")
    rng = np.random.default_rng(seed)
    pairs = zip(_blocks(x, count, block_size, rng), _blocks(y, count, block_size, rng), strict=True)
    values = np.array([squared_mmd(a, b) for a, b in pairs])
    se = float(values.std(ddof=1) / np.sqrt(count))
    return KernelDistance(float(values.mean()), se, count, block_size, "mean over disjoint blocks")


def squared_mmd(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Unbiased estimate (Gretton et al. 2012, eq. 3): pairs of an image with itself are left out."""
    n, m = len(x), len(y)
    within_x, within_y, across = _own_sums(x).sum(), _own_sums(y).sum(), _row_sums(x, y).sum()
    return float(within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m))


def _whole(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> tuple[float, float]:
    """The estimate over all pairs, and its error with each image left out once, from the kernel's row sums."""
    own_x, own_y, x_to_y, y_to_x = _own_sums(x), _own_sums(y), _row_sums(x, y), _row_sums(y, x)
    n, m, within_x, within_y, across = len(x), len(y), own_x.sum(), own_y.sum(), x_to_y.sum()
    mean_y, mean_x = within_y / (m * (m - 1)), within_x / (n * (n - 1))
    value = mean_x + mean_y - 2 * across / (n * m)
    without_x = (within_x - 2 * own_x) / ((n - 1) * (n - 2)) + mean_y - 2 * (across - x_to_y) / ((n - 1) * m)
    without_y = mean_x + (within_y - 2 * own_y) / ((m - 1) * (m - 2)) - 2 * (across - y_to_x) / (n * (m - 1))
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return float(value), float(np.sqrt(variance))


def _kernel(x: Float64[np.ndarray, "b d"], y: Float64[np.ndarray, "m d"]) -> Float64[np.ndarray, "b m"]:
    values: Float64[np.ndarray, "b m"] = (x @ y.T / x.shape[1] + 1) ** 3
    return values


def _row_sums(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> Float64[np.ndarray, " n"]:
    """Sum over y of k(x_i, y), in chunks, so that no n x m matrix is held."""
    return np.concatenate([_kernel(x[i : i + _CHUNK], y).sum(axis=1) for i in range(0, len(x), _CHUNK)])


def _own_sums(x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Sum over the others of k(x_i, x_j)."""
    own = (np.einsum("nd,nd->n", x, x) / x.shape[1] + 1) ** 3
    sums: Float64[np.ndarray, " n"] = _row_sums(x, x) - own
    return sums


def _blocks(
    x: Float64[np.ndarray, "n d"], count: int, size: int, rng: np.random.Generator
) -> list[Float64[np.ndarray, "b d"]]:
    order = rng.permutation(len(x))
    return [x[order[i * size : (i + 1) * size]] for i in range(count)]
