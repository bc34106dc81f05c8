"""Images as they are, for families whose networks have no autoencoder. Shapes: n images, b of them, s pixels a side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int, UInt8
from torch import Tensor

from difftune_core.data.latents import Latents, LatentSet, Streamed
from difftune_core.data.pixels import ImageRows, pixels_digest
from difftune_core.runtime.residency import is_resident
from difftune_core.runtime.tensors import sent

_HALF = 127.5


def pixel_latents(pixels: ImageRows, labels: Int[Tensor, " n"]) -> Latents:
    """Take images, in [-1, 1] and without a spread, for their own latents; a large set stays where it is."""
    streamed = PixelLatents(pixels, labels, pixels_digest(pixels))
    nbytes = 2 * torch.float16.itemsize * int(np.prod(pixels.shape))
    if not is_resident(nbytes, torch.device("cpu")):
        return streamed
    mean = streamed.means(0, len(labels))[None]
    return LatentSet(mean, torch.zeros_like(mean), labels, streamed.digest)


@dataclass(frozen=True)
class PixelLatents(Streamed[ImageRows]):
    """Images that are decoded when a batch asks for them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, s, s)."""
        _, height, width, channels = self.rows.shape
        return channels, height, width

    def means(self, start: int, stop: int) -> Float16[Tensor, "_ 3 s s"]:
        """Return some of the images."""
        return self._of(slice(start, stop))

    def prefetch(self, indices: Int[Tensor, " b"]) -> None:
        """Do nothing: files are read where they are decoded."""

    def draw(
        self, indices: Int[Tensor, " b"], flip: Bool[Tensor, " b"], noise: Float[Tensor, "b 3 s s"]
    ) -> Float[Tensor, "b 3 s s"]:
        """Images of a batch; neither mirrored nor spread."""
        del flip, noise
        return self._of(indices.numpy()).float()

    def _of(self, chosen: Any) -> Float16[Tensor, "_ 3 s s"]:
        images = torch.from_numpy(np.asarray(self.rows[chosen])).permute(0, 3, 1, 2)
        return sent((images / _HALF - 1).half(), self.device)


def pixels_of(latents: Float[Tensor, "n 3 s s"]) -> UInt8[np.ndarray, "n s s 3"]:
    """Turn such latents into images again."""
    levels = ((latents + 1) * _HALF).round().clamp(0, 255)
    return np.ascontiguousarray(levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
