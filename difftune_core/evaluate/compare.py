"""Distances between two sets of features, with how they were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from difftune_core.evaluate.extrapolate import frechet_infinity
from difftune_core.evaluate.features import FeatureExtractor
from difftune_core.evaluate.frechet import Estimate, frechet_estimate
from difftune_core.evaluate.kernel import BLOCK_SIZE, kernel_distance
from difftune_core.evaluate.neighbours import COVERAGE_K, PRECISION_K, density_coverage, precision_recall
from difftune_core.hooks import TaskError

Metric = Literal["fid", "kid", "fid_infinity", "precision_recall", "density_coverage"]
METRICS: tuple[Metric, ...] = get_args(Metric)
DEFAULT_METRICS: tuple[Metric, ...] = ("fid", "kid")
_ROUNDING = 1e-6  # of the largest feature: batches of other sizes round features in float32 otherwise
_PLAIN = {"tiny", "inception"}  # kinds of extractor whose distances are called FID and KID

Figures = dict[str, Any]


def compare(
    real: Float[np.ndarray, "n d"],
    fake: Float[np.ndarray, "m d"],
    *,
    extractor: FeatureExtractor | None = None,
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
        metrics: what to compute.
        block_size: of KID.
        seed: of KID's blocks and FID-infinity's parts.

    Raises:
        TaskError: `too_few_images`, `not_finite`, `no_spread`, `metric_unknown`.
    """
    check_known(metrics)
    check_spread(real, fake)
    pair = _Pair(real, fake, "inception" if extractor is None else extractor.kind, block_size, seed)
    result: Figures = {}
    for metric in dict.fromkeys(metrics):
        result |= _COMPUTED[metric](pair)
    result |= {"num_real": len(real), "num_fake": len(fake)}
    if warnings := [*_few_for_features(pair, metrics), *pair.warnings]:
        result["warnings"] = warnings
    if extractor is not None:
        result["extractor"] = describe(extractor)
    return result


def check_known(metrics: Sequence[str]) -> None:
    """Refuse a name that is no metric's.

    Raises:
        TaskError: `metric_unknown`.
    """
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise TaskError("metric_unknown", f"no metric {unknown[0]!r}: known are {', '.join(METRICS)}", "metrics")


def check_spread(real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"]) -> None:
    """Refuse features by which all images of both sets are the same: each figure would be that of a perfect model.

    Raises:
        TaskError: `no_spread`.
    """
    both = np.concatenate([real, fake])
    if len(both) and np.ptp(both, axis=0).max() <= _ROUNDING * np.abs(both).max():
        raise TaskError("no_spread", "all images, real and generated, have the same features: nothing can be judged")


def describe(extractor: FeatureExtractor) -> dict[str, Any]:
    """What identifies the extractor behind a number."""
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
class _Pair:
    """Two sets, and what more than one metric needs of them."""

    real: Float[np.ndarray, "n d"]
    fake: Float[np.ndarray, "m d"]
    kind: str
    block_size: int
    seed: int
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def fid(self) -> Estimate:
        return frechet_estimate(self.real, self.fake)

    def name(self, name: str) -> str:
        return metric_name(name, self.kind)

    def refused(self, error: TaskError, *names: str) -> Figures:
        """No figures, and why."""
        if error.code != "too_few_images":
            raise error
        self.warnings.append(str(error))
        parts = ("", "_se", "_interval", "_se_method")
        return {f"{self.name(name)}{part}": None for name in names for part in parts}


def _figures(name: str, estimate: Estimate) -> Figures:
    return {
        name: estimate.value,
        f"{name}_se": estimate.se,
        f"{name}_interval": list(estimate.interval),
        f"{name}_se_method": estimate.method,
    }


def _fid(pair: _Pair) -> Figures:
    return _figures(pair.name("fid"), pair.fid)


def _kid(pair: _Pair) -> Figures:
    kid, name = kernel_distance(pair.real, pair.fake, block_size=pair.block_size, seed=pair.seed), pair.name("kid")
    return {
        name: kid.value,
        f"{name}_se": kid.se,
        f"{name}_interval": list(Estimate(kid.value, kid.se, kid.method).interval),
        f"{name}_blocks": kid.num_blocks,
        f"{name}_block_size": kid.block_size,
        f"{name}_method": kid.method,
    }


def _fid_infinity(pair: _Pair) -> Figures:
    name = pair.name("fid_infinity")
    try:
        found = frechet_infinity(pair.real, pair.fake, full=pair.fid, seed=pair.seed)
    except TaskError as error:
        return {**pair.refused(error, "fid_infinity"), f"{pair.name('fid')}_bias": None}
    return {**_figures(name, found.estimate), f"{pair.name('fid')}_bias": found.bias}


def _precision_recall(pair: _Pair) -> Figures:
    try:
        precision, recall = precision_recall(pair.real, pair.fake)
    except TaskError as error:
        return pair.refused(error, "precision", "recall")
    figures = {**_figures(pair.name("precision"), precision), **_figures(pair.name("recall"), recall)}
    return {**figures, pair.name("precision_recall_k"): PRECISION_K}


def _density_coverage(pair: _Pair) -> Figures:
    try:
        density, coverage = density_coverage(pair.real, pair.fake)
    except TaskError as error:
        return pair.refused(error, "density", "coverage")
    figures = {**_figures(pair.name("density"), density), **_figures(pair.name("coverage"), coverage)}
    return {**figures, pair.name("density_coverage_k"): COVERAGE_K}


_COMPUTED: dict[str, Callable[[_Pair], Figures]] = {
    "fid": _fid,
    "kid": _kid,
    "fid_infinity": _fid_infinity,
    "precision_recall": _precision_recall,
    "density_coverage": _density_coverage,
}


def _few_for_features(pair: _Pair, metrics: Sequence[str]) -> list[str]:
    count, num_features, name = min(len(pair.real), len(pair.fake)), pair.real.shape[1], pair.name("fid")
    if count > num_features or "fid" not in metrics:
        return []
    shown = "FID" if name == "fid" else name
    return [f"{count} images for {num_features} features: no full covariance, {shown} is far too high"]
