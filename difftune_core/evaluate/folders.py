"""Metrics between two folders or archives of images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from difftune_core.data.archive import RefusedError, open_archive
from difftune_core.data.scan import is_stray
from difftune_core.evaluate.compare import DEFAULT_METRICS, check_known, compare, describe, metric_name
from difftune_core.evaluate.features import FeatureExtractor, load_extractor
from difftune_core.files import sha256_json
from difftune_core.hooks import TaskError

_BATCH = 256


def evaluate_folders(
    real: Path, fake: Path, extractor_folders: Sequence[Path], metrics: Sequence[str] = DEFAULT_METRICS
) -> dict[str, Any]:
    """`metrics` of the images in `fake` against those in `real`, class folders or none, with the recipe.

    Every image is brought to an extractor's size in the extractor's own way, which the recipe names. With several
    extractors their figures stand side by side, told apart by their names (`fid`, `fd_dinov2`).

    Raises:
        TaskError: `metric_unknown`, before anything is read; `invalid_dataset` naming the first bad file,
            `too_few_images`, `same_names` for two extractors whose figures would have the same names, or the archive's
            or extractor's own.
    """
    check_known(metrics, has_images=False)
    extractors = [load_extractor(folder) for folder in extractor_folders]
    _check_names(extractors)
    result: dict[str, Any] = {}
    warnings: list[str] = []
    resizings: dict[str, str] = {}
    for extractor in extractors:
        real_features, real_digest = folder_features(real, extractor)
        fake_features, fake_digest = folder_features(fake, extractor)
        found = compare(real_features, fake_features, extractor=extractor, metrics=metrics)
        warnings += found.pop("warnings", [])
        result = found | result  # what both have (`extractor`, the counts) stays the first's
        resizings[extractor.id] = extractor.resizing
        digests = {"real_digest": real_digest, "fake_digest": fake_digest}
    recipe: dict[str, Any] = {**digests, "resize": extractors[0].resizing}
    if warnings:
        result["warnings"] = warnings
    if len(extractors) > 1:
        result["extractors"] = [describe(extractor) for extractor in extractors]
        recipe["resizes"] = resizings
    return {**result, "recipe": recipe}


def folder_features(path: Path, extractor: FeatureExtractor) -> tuple[Float32[np.ndarray, "n d"], str]:
    """Features of every image in `path`, and the sha256 over the sorted sha256 of the images."""
    features, digests, batch = [], [], []
    with open_archive(path) as archive:
        if archive.refused:
            first = archive.refused[0]
            raise TaskError("invalid_dataset", f"{first.path}: {first.message} ({first.code})", first.path)
        for member in archive:
            try:
                data = archive.read(member)
                batch.append(extractor.read(data))
            except RefusedError as reason:
                if is_stray(member.path, reason.code):
                    continue
                raise TaskError("invalid_dataset", f"{member.path}: {reason} ({reason.code})", member.path) from reason
            digests.append(hashlib.sha256(data).hexdigest())
            if len(batch) == _BATCH:
                features.append(extractor.features(np.stack(batch)))
                batch.clear()
    if batch:
        features.append(extractor.features(np.stack(batch)))
    if not features:
        raise TaskError("no_images", f"{path.name} holds no images", path.name)
    return np.concatenate(features), sha256_json(sorted(digests))


def _check_names(extractors: list[FeatureExtractor]) -> None:
    seen: dict[str, str] = {}
    for extractor in extractors:
        name = metric_name("fid", extractor.kind)
        if name in seen:
            message = f"{seen[name]!r} and {extractor.id!r} would both give {name!r}: evaluate them one at a time"
            raise TaskError("same_names", message, "features")
        seen[name] = extractor.id
