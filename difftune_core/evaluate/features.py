"""Feature extractors: networks whose features carry the distances, each known by its id and the digest of its weights.

Shapes: n images, h w pixels, d features, b images of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image

from difftune_core.card import CARD_FILE
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError

_BATCH = 256


@runtime_checkable  # the tests check arguments at run time
class FeatureExtractor(Protocol):
    """From images to features."""

    @property
    def id(self) -> str:
        """Public id."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of its weights."""
        ...

    @property
    def dim(self) -> int:
        """Number of features."""
        ...

    @property
    def input_size(self) -> int:
        """Pixels a side that the network sees."""
        ...

    @property
    def comparable(self) -> bool:
        """Whether distances over its features may be set beside published ones."""
        ...

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Features of RGB images of any one size."""
        ...


class TinyFeatures:
    """The bundled network of 64 features, which learned to tell rendered glyphs and shapes apart.

    Its distances compare runs with one another and with nothing that was published.
    """

    input_size = 32
    comparable = False

    def __init__(self, folder: Path, extractor_id: str) -> None:
        """Load the network in `folder`."""
        from difftune_core.tiny.features import FEATURES, WEIGHTS, load_feature_net

        self.id = extractor_id
        self.digest = sha256_file(folder / WEIGHTS)
        self.dim = FEATURES
        self._net = load_feature_net(folder)

    @torch.inference_mode()
    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Features of RGB images; other sizes than 32 x 32 are brought to it by PIL's bicubic filter."""
        batches = [self._features(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        return np.concatenate(batches) if batches else np.empty((0, self.dim), np.float32)

    def _features(self, images: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b d"]:
        pixels = torch.from_numpy(resize(images, self.input_size)).permute(0, 3, 1, 2)
        features: Float32[np.ndarray, "b d"] = self._net(pixels.float() / 255).numpy()
        return features


_KINDS: dict[str, Callable[[Path, str], FeatureExtractor]] = {"tiny": TinyFeatures}


def load_extractor(folder: Path) -> FeatureExtractor:
    """The extractor in `folder`, by the `kind` in its card (`tiny` where none is named).

    Raises:
        TaskError: `feature_extractor_not_found`, `feature_extractor_unknown`.
    """
    if not folder.is_dir():
        raise TaskError("feature_extractor_not_found", f"there is no feature extractor in {folder.name!r}")
    path = folder / CARD_FILE
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kind = card.get("kind", "tiny")
    if kind not in _KINDS:
        raise TaskError("feature_extractor_unknown", f"{folder.name}: no feature extractor of kind {kind!r} is known")
    try:
        return _KINDS[kind](folder, card.get("id", folder.name))
    except (FileNotFoundError, ValueError) as error:
        raise TaskError("feature_extractor_not_found", f"{folder.name}: {error}") from error


def resize(images: UInt8[np.ndarray, "n h w 3"], size: int) -> UInt8[np.ndarray, "n size size 3"]:
    """By PIL's antialiased bicubic filter, rounded to 8 bits (Parmar et al. 2022); unchanged if the size is right."""
    if images.shape[1:3] == (size, size):
        return np.array(images)
    resized = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in resized])
