"""Distances between two sets of features, with how they were made.

`difftune_core.config.figures` says which metrics there are, and names the function that computes each. Such a function
takes a `Pair` and returns values by the keys of its metric's figures, an `Estimate` where there is a standard error;
other keys are details beside them. It raises `TaskError` with the code `too_few_images` where it needs more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pkgutil import resolve_name
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from difftune_core.config.figures import Metric, default_metrics, named_metrics
from difftune_core.evaluate.extrapolate import frechet_infinity
from difftune_core.evaluate.features import FeatureExtractor
from difftune_core.evaluate.frechet import Estimate, frechet_estimate
from difftune_core.evaluate.kernel import BLOCK_SIZE, kernel_distance
from difftune_core.evaluate.neighbours import COVERAGE_K, PRECISION_K, density_coverage, precision_recall
from difftune_core.hooks import TaskError

DEFAULT_METRICS = default_metrics()
_ROUNDING = 1e-6  # of the largest feature: batches of other sizes round features in float32 otherwise
_PLAIN = {"tiny", "inception"}  # kinds of extractor whose distances are called FID and KID

Figures = dict[str, Any]
Images = UInt8[np.ndarray, "_ h w 3"]


def compare(
    real: Float[np.ndarray, "n d"],
    fake: Float[np.ndarray, "m d"],
    *,
    extractor: FeatureExtractor | None = None,
    images: tuple[Images, Images] | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    block_size: int = BLOCK_SIZE,
    seed: int = 0,
) -> Figures:
    """`metrics` of `fake` against `real`, each with its standard error, 95 % interval and how they were found.

    FID and KID raise for too few images. The other metrics ask for more: where there are too few for one, its figures
    are None and the reason is among the warnings.

    Args:
        real: features of the reference images.
        fake: features of the judged images.
        extractor: named in the result with its digest; gives the figures their names (`metric_name`).
        images: those that the features are of, real and judged, for metrics that look at them.
        metrics: what to compute.
        block_size: of KID.
        seed: of KID's blocks and FID-infinity's parts.

    Raises:
        TaskError: `too_few_images`, `not_finite`, `no_spread`, or as `check_known`.
    """
    check_known(metrics, has_images=images is not None)
    check_spread(real, fake)
    kind = "inception" if extractor is None else extractor.kind
    pair = Pair(real, fake, images or (None, None), kind, block_size, seed)
    known, result = named_metrics(), Figures()
    for metric in dict.fromkeys(metrics):
        result |= _measured(known[metric], pair)
    result |= {"num_real": len(real), "num_fake": len(fake)}
    if warnings := [*_few_for_features(pair, metrics), *pair.warnings]:
        result["warnings"] = warnings
    if extractor is not None:
        result["extractor"] = describe(extractor)
    return result


def check_known(metrics: Sequence[str], *, has_images: bool = True) -> None:
    """Refuse a name that is no metric's, and a metric that cannot be computed.

    Args:
        metrics: names.
        has_images: whether there are images beside their features.

    Raises:
        TaskError: `metric_unknown`, `metric_needs_images`, `metric_unloadable`.
    """
    known = named_metrics()
    for name in metrics:
        if name not in known:
            raise TaskError("metric_unknown", f"no metric {name!r}: known are {', '.join(known)}", "metrics")
        if "images" in known[name].needs and not has_images:
            message = f"{name} looks at the images themselves, and here are only features: a run measures it"
            raise TaskError("metric_needs_images", message, "metrics")
        _function(known[name])


def _function(metric: Metric) -> Callable[[Pair], Figures]:
    try:
        function: Callable[[Pair], Figures] = resolve_name(metric.compute)
    except Exception as error:
        message = f"the metric {metric.name!r} cannot be loaded: {metric.compute}: {error}"
        raise TaskError("metric_unloadable", message, "metrics") from error
    return function


def check_spread(real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"]) -> None:
    """Refuse features by which all images of both sets are the same: each figure would be that of a perfect model.

    Raises:
        TaskError: `no_spread`.
    """
    both = np.concatenate([real, fake])
    if len(both) and np.ptp(both, axis=0).max() <= _ROUNDING * np.abs(both).max():
        raise TaskError("no_spread", "all images, real and generated, have the same features: nothing can be judged")


def describe(extractor: FeatureExtractor) -> dict[str, Any]:
    """Return what identifies the extractor behind a number."""
    return {
        "id": extractor.id,
        "digest": extractor.digest,
        "num_features": extractor.dim,
        "comparable_with_published": extractor.comparable,
    }


def metric_name(name: str, kind: str) -> str:
    """The name of a figure over an extractor's features: `fid` over DINOv2 is `fd_dinov2`, `recall` `recall_dinov2`."""
    if kind in _PLAIN:
        return name
    distances = {"fid": f"fd_{kind}", "fid_infinity": f"fd_{kind}_infinity", "kid": f"kd_{kind}"}
    return distances.get(name, f"{name}_{kind}")


@dataclass
class Pair:
    """Two sets of images as a metric sees them, and what more than one metric needs of them."""

    real: Float[np.ndarray, "n d"]
    """Features of the reference images."""
    fake: Float[np.ndarray, "m d"]
    """Features of the judged images."""
    images: tuple[Images | None, Images | None]
    """The images themselves, reference and judged; None where a metric does not need them."""
    kind: str
    """Name of the extractor's kind."""
    block_size: int
    seed: int
    warnings: list[str] = field(default_factory=list)
    """What the reader of the figures must know; to be added to."""

    @cached_property
    def fid(self) -> Estimate:
        """The Fréchet distance."""
        return frechet_estimate(self.real, self.fake)

    def name(self, name: str) -> str:
        """The name of a figure, or of a detail beside it, over these features."""
        return metric_name(name, self.kind)

    def refused(self, error: TaskError, *names: str) -> Figures:
        """Note that there are no figures of these names, and why.

        Raises:
            TaskError: the error itself, where it is not for want of images.
        """
        if error.code != "too_few_images":
            raise error
        self.warnings.append(str(error))
        parts = ("", "_se", "_interval", "_se_method")
        return {f"{self.name(name)}{part}": None for name in names for part in parts}


def _measured(metric: Metric, pair: Pair) -> Figures:
    """The metric's figures under the names that they have over these features."""
    keys = [figure.key for figure in metric.figures]
    try:
        found = _function(metric)(pair)
    except TaskError as error:
        if metric.is_default:
            raise
        return pair.refused(error, *keys)
    result: Figures = {}
    for key, value in found.items():
        name = pair.name(key) if key in keys else key
        result |= _with_error(name, value) if isinstance(value, Estimate) else {name: value}
    return result


def _with_error(name: str, estimate: Estimate) -> Figures:
    return {
        name: estimate.value,
        f"{name}_se": estimate.se,
        f"{name}_interval": list(estimate.interval),
        f"{name}_se_method": estimate.method,
    }


def fid(pair: Pair) -> Figures:
    """The Fréchet distance."""
    return {"fid": pair.fid}


def kid(pair: Pair) -> Figures:
    """The kernel distance, and its blocks."""
    found, name = kernel_distance(pair.real, pair.fake, block_size=pair.block_size, seed=pair.seed), pair.name("kid")
    return {
        "kid": found.value,
        f"{name}_se": found.se,
        f"{name}_interval": list(Estimate(found.value, found.se, found.method).interval),
        f"{name}_blocks": found.num_blocks,
        f"{name}_block_size": found.block_size,
        f"{name}_method": found.method,
    }


def fid_infinity(pair: Pair) -> Figures:
    """The Fréchet distance at infinitely many images, and what FID has too much."""
    bias = f"{pair.name('fid')}_bias"
    try:
        found = frechet_infinity(pair.real, pair.fake, full=pair.fid, seed=pair.seed)
    except TaskError as error:
        return {**pair.refused(error, "fid_infinity"), bias: None}
    return {"fid_infinity": found.estimate, bias: found.bias}


def shares_inside(pair: Pair) -> Figures:
    """Precision and recall."""
    precision, recall = precision_recall(pair.real, pair.fake)
    return {"precision": precision, "recall": recall, pair.name("precision_recall_k"): PRECISION_K}


def shares_of_balls(pair: Pair) -> Figures:
    """Density and coverage."""
    density, coverage = density_coverage(pair.real, pair.fake)
    return {"density": density, "coverage": coverage, pair.name("density_coverage_k"): COVERAGE_K}


def _few_for_features(pair: Pair, metrics: Sequence[str]) -> list[str]:
    count, num_features, name = min(len(pair.real), len(pair.fake)), pair.real.shape[1], pair.name("fid")
    if count > num_features or "fid" not in metrics:
        return []
    shown = "FID" if name == "fid" else name
    return [f"{count} images for {num_features} features: no full covariance, {shown} is far too high"]
