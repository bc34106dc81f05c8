"""FID and KID between two folders or archives of images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from difftune_core.data.archive import RefusedError, open_archive
from difftune_core.evaluate.compare import compare
from difftune_core.evaluate.features import FeatureExtractor, load_extractor
from difftune_core.files import sha256_json
from difftune_core.hooks import TaskError

_BATCH = 256


def evaluate_folders(real: Path, fake: Path, extractor_folder: Path) -> dict[str, Any]:
    """FID and KID of the images in `fake` against those in `real`, class folders or none, with the recipe.

    Every image is brought to the extractor's size in the extractor's own way, which the recipe names.

    Raises:
        TaskError: `invalid_dataset` naming the first bad file, `too_few_images`, or the archive's or extractor's own.
    """
    extractor = load_extractor(extractor_folder)
    real_features, real_digest = folder_features(real, extractor)
    fake_features, fake_digest = folder_features(fake, extractor)
    return {
        **compare(real_features, fake_features, extractor=extractor),
        "recipe": {
            "real_digest": real_digest,
            "fake_digest": fake_digest,
            "resize": extractor.resizing,
        },
    }


def folder_features(path: Path, extractor: FeatureExtractor) -> tuple[Float32[np.ndarray, "n d"], str]:
    """Features of every image in `path`, and the sha256 over the sorted sha256 of the files."""
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
