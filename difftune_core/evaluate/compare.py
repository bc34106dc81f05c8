"""Distances between two sets of features, with how they were made."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from difftune_core.evaluate.features import FeatureExtractor
from difftune_core.evaluate.frechet import frechet_estimate
from difftune_core.evaluate.kernel import BLOCK_SIZE, kernel_distance


def compare(
    real: Float[np.ndarray, "n d"],
    fake: Float[np.ndarray, "m d"],
    *,
    extractor: FeatureExtractor | None = None,
    block_size: int = BLOCK_SIZE,
    seed: int = 0,
) -> dict[str, Any]:
    """FID and KID of `fake` against `real`, each with its standard error and how that was found.

    Args:
        real: features of the reference images.
        fake: features of the judged images.
        extractor: named in the result with its digest.
        block_size: of KID.
        seed: of KID's blocks.

    Raises:
        TaskError: `too_few_images`, `not_finite`.
    """
    fid = frechet_estimate(real, fake)
    kid = kernel_distance(real, fake, block_size=block_size, seed=seed)
    result: dict[str, Any] = {
        "fid": fid.value,
        "fid_se": fid.se,
        "fid_interval": list(fid.interval),
        "fid_se_method": fid.method,
        "kid": kid.value,
        "kid_se": kid.se,
        "kid_blocks": kid.num_blocks,
        "kid_block_size": kid.block_size,
        "kid_method": kid.method,
        "num_real": len(real),
        "num_fake": len(fake),
    }
    if warnings := _warnings(len(real), len(fake), real.shape[1]):
        result["warnings"] = warnings
    if extractor is not None:
        result["extractor"] = describe(extractor)
    return result


def describe(extractor: FeatureExtractor) -> dict[str, Any]:
    """What identifies the extractor behind a number."""
    return {
        "id": extractor.id,
        "digest": extractor.digest,
        "num_features": extractor.dim,
        "comparable_with_published": extractor.comparable,
    }


def _warnings(num_real: int, num_fake: int, num_features: int) -> list[str]:
    if min(num_real, num_fake) > num_features:
        return []
    return [f"{min(num_real, num_fake)} images for {num_features} features: no full covariance, FID is far too high"]
