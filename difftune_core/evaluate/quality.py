"""All distances of a run between two sets of images, each set as the features that every extractor finds in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from difftune_core.config.figures import named_metrics
from difftune_core.data.pixels import ImageRows
from difftune_core.evaluate.compare import DEFAULT_METRICS, Images, check_spread, compare
from difftune_core.evaluate.frechet import frechet_estimate
from difftune_core.hooks import TaskError

Features = dict[str, Float32[np.ndarray, "_ _"]]
"""[images, features] by extractor id, the main one first."""
_WITHOUT_FIGURE = {"too_few_images", "no_spread"}


def quality(
    real: Features, fake: Features, metrics: Sequence[str] = (), *, images: tuple[ImageRows, ImageRows] | None = None
) -> dict[str, Any]:
    """FID, KID and `metrics` over the first extractor's features, `fd_<id>` over each further one's.

    Where there are too few images for a figure, or all have the same features, it is None, and the reason among the
    warnings. `images` are those that the features are of, for metrics that look at them.
    """
    main, *others = real
    pair = None if images is None or not look_at_images(metrics) else (np.asarray(images[0]), np.asarray(images[1]))
    result = _compared(real[main], fake[main], (*DEFAULT_METRICS, *metrics), pair)
    for id_ in others:
        distance, reason = _distance(id_, real[id_], fake[id_])
        result |= distance
        if reason:
            result["warnings"] = [*result.get("warnings", []), reason]
    return result


def real_against_real(
    real: Features, images: ImageRows, metrics: Sequence[str], *, count: int, seed: int
) -> dict[str, Any]:
    """`quality` of a part of the real images against the others: what equally good images would score.

    Args:
        real: features of all.
        images: all.
        metrics: as of `quality`.
        count: images of the part, at most half of them.
        seed: of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    parts = np.split(order, [min(count, len(images) // 2)])
    fake_features, real_features = ({id_: found[part] for id_, found in real.items()} for part in parts)
    pair = (images[parts[1]], images[parts[0]]) if look_at_images(metrics) else None
    return quality(real_features, fake_features, metrics, images=pair)


def look_at_images(metrics: Sequence[str]) -> bool:
    """Return whether images are needed besides their features; they are decoded and copied for such metrics alone."""
    known = named_metrics()
    return any("images" in known[name].needs for name in metrics if name in known)


def _compared(
    real: Float32[np.ndarray, "n d"],
    fake: Float32[np.ndarray, "m d"],
    metrics: Sequence[str],
    images: tuple[Images, Images] | None,
) -> dict[str, Any]:
    try:
        return compare(real, fake, images=images, metrics=metrics)
    except TaskError as error:
        if error.code not in _WITHOUT_FIGURE:
            raise
        counts = {"num_real": len(real), "num_fake": len(fake)}
        return {**dict.fromkeys(("fid", "fid_se", "kid", "kid_se")), **counts, "warnings": [str(error)]}


def _distance(
    id_: str, real: Float32[np.ndarray, "n d"], fake: Float32[np.ndarray, "m d"]
) -> tuple[dict[str, Any], str | None]:
    """The figure with its error and 95 % interval, and what to warn of."""
    names = f"fd_{id_}", f"fd_{id_}_se", f"fd_{id_}_interval"
    try:
        check_spread(real, fake)
        found = frechet_estimate(real, fake)
    except TaskError as error:
        if error.code not in _WITHOUT_FIGURE:
            raise
        return dict.fromkeys(names), f"fd_{id_}: {error}"
    few, dim = min(len(real), len(fake)), real.shape[1]
    biased = f"fd_{id_}: {few} images for {dim} features: no full covariance, the distance is far too high"
    return dict(zip(names, (found.value, found.se, list(found.interval)), strict=True)), None if few > dim else biased
