"""DINOv2's class token as features (Oquab et al. 2023), for FD-DINOv2 (Stein et al. 2023). Needs transformers.

Shapes: b images of a batch, h w pixels, s pixels a side as the network sees them, p patches a side, d features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from difftune_core.config.card import FeatureExtractorCard
from difftune_core.evaluate.extractor import BatchedExtractor
from difftune_core.evaluate.pretrained import load_pretrained
from difftune_core.evaluate.resizing import resize

SIZE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels
_OFFSET = 0.1  # what the original adds to the number of patches before it interpolates positions


class Dinov2Features(BatchedExtractor):
    """The normalised class token of the last layer; 1024 features for ViT-L/14, the network of published FD-DINOv2."""

    kind = "dinov2"
    input_size = SIZE
    resizing = "whole image, PIL bicubic to 224 x 224, ImageNet's mean and deviation"

    def __init__(self, folder: Path, card: FeatureExtractorCard, device: torch.device | str) -> None:
        """Load the network in `folder`.

        Raises:
            TaskError: `model_mismatch` with the names at fault, `not_finite`.
        """
        super().__init__(folder, card, device)
        self.dim = int(self._net.config.hidden_size)
        self._mean = torch.tensor(_MEAN, device=device)[:, None, None]
        self._std = torch.tensor(_STD, device=device)[:, None, None]

    def _load(self, folder: Path) -> Any:
        return load_dinov2(folder)

    def prepare(self, images: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b 224 224 3"]:
        """RGB images of any size at the network's, whatever their shape."""
        return resize(images, SIZE)

    def _forward(self, prepared: Tensor) -> Tensor:
        pixels = (prepared.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
        features: Tensor = self._net(pixel_values=pixels).last_hidden_state[:, 0]
        return features


def load_dinov2(folder: Path) -> Any:
    """A transformers `Dinov2Model` in float32, in evaluation mode, its positions brought to 224 pixels.

    Raises:
        TaskError: `model_mismatch` where names or shapes do not fit `config.json`, `not_finite` for NaN or infinity.
    """
    net = load_pretrained("Dinov2Model", folder)
    embeddings = net.embeddings
    grid = SIZE // int(net.config.patch_size)
    positions = positions_at(embeddings.position_embeddings.detach(), grid)
    embeddings.position_embeddings = torch.nn.Parameter(positions, requires_grad=False)
    return net


def positions_at(positions: Float[Tensor, "1 n d"], grid: int) -> Float32[Tensor, "1 m d"]:
    """Position embeddings for a grid of `grid` x `grid` patches, interpolated once as the original DINOv2 does.

    transformers interpolates to the exact size instead, which moves every sample a little.
    """
    token, patches = positions[:, :1].float(), positions[:, 1:].float()
    side = round(patches.shape[1] ** 0.5)
    if side == grid:
        return positions.float()
    square = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (grid + _OFFSET) / side
    moved = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
    return torch.cat([token, moved.flatten(2).transpose(1, 2)], dim=1)
