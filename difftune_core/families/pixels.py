"""Images as they are, for families whose networks have no autoencoder. Shapes: n images, s pixels a side."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from difftune_core.data.latents import LatentSet
from difftune_core.data.pixels import ImageRows, pixels_digest

_HALF = 127.5


def pixel_latents(pixels: ImageRows, labels: Int[Tensor, " n"]) -> LatentSet:
    """Take images, in [-1, 1] and without a spread, for their own latents."""
    mean = torch.from_numpy(np.asarray(pixels)).permute(0, 3, 1, 2)[None] / _HALF - 1
    return LatentSet(mean.half(), torch.zeros_like(mean).half(), labels, pixels_digest(pixels))


def pixels_of(latents: Float[Tensor, "n 3 s s"]) -> UInt8[np.ndarray, "n s s 3"]:
    """Turn such latents into images again."""
    levels = ((latents + 1) * _HALF).round().clamp(0, 255)
    return np.ascontiguousarray(levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
