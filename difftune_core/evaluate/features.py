"""Feature extractors: networks whose features carry the distances, each found by the `kind` in its card.

Shapes: n images, h w pixels, b images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import ValidationError
from torch import Tensor, nn

from difftune_core.config.card import FeatureExtractorCard, read_extractor_card
from difftune_core.data.images import load_rgb
from difftune_core.evaluate.extractor import BatchedExtractor, FeatureExtractor
from difftune_core.evaluate.resizing import resize
from difftune_core.hooks import TaskError

__all__ = ["FeatureExtractor", "TinyFeatures", "load_extractor"]


class TinyFeatures(BatchedExtractor):
    """The bundled network of 64 features, which learned to tell rendered glyphs and shapes apart.

    Its distances compare runs with one another and with nothing that was published.
    """

    kind = "tiny"
    input_size = 32
    resizing = "boxes by halves, PIL bicubic, centre crop to 32 pixels a side"
    _batch = 256

    def __init__(self, folder: Path, card: FeatureExtractorCard, device: torch.device | str) -> None:
        """Load the network in `folder`."""
        from difftune_core.evaluate.tiny_features import FEATURES

        super().__init__(folder, card, device)
        self.dim = FEATURES
        _ = self._net

    def _load(self, folder: Path) -> nn.Module:
        from difftune_core.evaluate.tiny_features import load_feature_net

        return load_feature_net(folder)

    def read(self, data: bytes) -> UInt8[np.ndarray, "32 32 3"]:
        """Read an encoded image, cropped as training crops it."""
        return load_rgb(data, self.input_size)

    def prepare(self, images: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b 32 32 3"]:
        """Bring images of other sizes to 32 x 32 by PIL's bicubic filter."""
        return resize(images, self.input_size)

    def _forward(self, prepared: Tensor) -> Tensor:
        features: Tensor = self._net(prepared.permute(0, 3, 1, 2).float() / 255)
        return features


def _inception(folder: Path, card: FeatureExtractorCard, device: torch.device | str) -> FeatureExtractor:
    from difftune_core.evaluate.inception import InceptionFeatures

    return InceptionFeatures(folder, card, device)


def _dinov2(folder: Path, card: FeatureExtractorCard, device: torch.device | str) -> FeatureExtractor:
    from difftune_core.evaluate.dinov2 import Dinov2Features

    return Dinov2Features(folder, card, device)


_KINDS: dict[str, Callable[[Path, FeatureExtractorCard, torch.device | str], FeatureExtractor]] = {
    "tiny": TinyFeatures,
    "inception": _inception,
    "dinov2": _dinov2,
}


def load_extractor(folder: Path, device: torch.device | str = "cpu") -> FeatureExtractor:
    """The extractor in `folder`, by the `kind` in its card (`tiny` where none is named).

    Raises:
        TaskError: `feature_extractor_not_found`, `feature_extractor_unknown`, or why its weights were refused.
    """
    if not folder.is_dir():
        raise TaskError("feature_extractor_not_found", f"there is no feature extractor in {folder.name!r}")
    try:
        card = read_extractor_card(folder)
    except ValidationError as error:
        message = f"{folder.name}: not the card of a feature extractor: {error.errors()[0]['msg']}"
        raise TaskError("feature_extractor_unknown", message) from None
    if card.kind not in _KINDS:
        message = f"{folder.name}: no feature extractor of kind {card.kind!r} is known"
        raise TaskError("feature_extractor_unknown", message)
    try:
        return _KINDS[card.kind](folder, card, device)
    except (OSError, ValueError) as error:
        raise TaskError("feature_extractor_not_found", f"{folder.name}: {error}") from error
