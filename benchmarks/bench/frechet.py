"""The Fréchet distance from both sets' moments: ours against scipy's matrix root of the product, one thread each."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import scipy.linalg
import torch

from benchmarks.harness.blocks import MIN_BLOCKS, Side, alternate
from benchmarks.harness.claims import Bar, Claim, Guard, share
from difftune_core.evaluate.frechet import Moments, frechet_distance, moments_of

BAR = Bar(at_most=1 / 6)
_FEATURES, _IMAGES = 2048, 5000  # Inception's; the covariances are of full rank
_AGREEMENT = 1e-6


def by_matrix_root(a: Moments, b: Moments) -> float:
    """Compute the distance as the usual tools do: by the root of a matrix that is not symmetric."""
    root = scipy.linalg.sqrtm(a.cov @ b.cov)
    step = a.mean - b.mean
    return float(step @ step + np.trace(a.cov) + np.trace(b.cov) - 2 * np.trace(np.real(root)))


def measured(_folder: Path, features: int = _FEATURES) -> list[Claim]:
    """Time both ways, which must agree."""
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    mixed = draw.standard_normal((features, features)) / np.sqrt(features)
    a, b = (moments_of(draw.standard_normal((_IMAGES, features)) @ mixed + shift) for shift in (0.0, 0.05))
    compared = alternate(
        Side("scipy's sqrtm", lambda: by_matrix_root(a, b)),
        Side("difftune", lambda: frechet_distance(a, b)),
        blocks=MIN_BLOCKS,
        block_s=0.0,
        clock=time.process_time,
    )
    wanted, found = by_matrix_root(a, b), frechet_distance(a, b)
    difference = abs(found - wanted) / wanted
    guard = Guard(f"relative difference at most {_AGREEMENT:g}", difference <= _AGREEMENT, {"difference": difference})
    return [share("frechet", compared, bar=BAR, guard=guard, details={"clock": "cpu", "features": features})]
