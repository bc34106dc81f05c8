"""The latent cache: every image encoded once, shared by content between jobs, resident in memory while training.

Mean and standard deviation are kept, not one sample, so that each step draws from the posterior anew; the mirrored
image is encoded too where flips are on, because the autoencoder is not equivariant to them.
Shapes: f flips (1 or 2), n images, c latent channels, h w latent size, b images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int, UInt8
from safetensors.torch import load_file
from torch import Tensor

from difftune_core.data.pixels import ImageRows, pixels_digest
from difftune_core.files import build_once, sha256_file
from difftune_core.runtime.caches import array_digest, place_of
from difftune_core.runtime.tensors import save_tensors

_FORMAT = 1
_FILE = "latents.safetensors"


@runtime_checkable
class Encoder(Protocol):
    """The part of an autoencoder that makes latents."""

    def encode(
        self, images: UInt8[np.ndarray, "n s s 3"]
    ) -> tuple[Float16[Tensor, "n c h w"], Float16[Tensor, "n c h w"]]:
        """Mean and standard deviation of each image's latent, scaled; on the CPU."""


@dataclass(frozen=True)
class LatentSet:
    """Cached latents of one image set."""

    mean: Float16[Tensor, "f n c h w"]
    std: Float16[Tensor, "f n c h w"]
    labels: Int[Tensor, " n"]
    digest: str
    """sha256 of the cache file: part of what makes a resume exact."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def to(self, device: torch.device | str) -> LatentSet:
        """The same set on another device."""
        return LatentSet(self.mean.to(device), self.std.to(device), self.labels.to(device), self.digest)

    def means(self, start: int, stop: int) -> Float16[Tensor, "_ c h w"]:
        """Means of some of the images, not mirrored."""
        return self.mean[0, start:stop]

    def draw(
        self, indices: Int[Tensor, " b"], flip: Bool[Tensor, " b"], noise: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """A posterior sample of each image; `flip` is ignored where mirrored latents were not cached."""
        side = flip.long() if len(self.mean) > 1 else torch.zeros_like(indices)
        return self.mean[side, indices].float() + self.std[side, indices].float() * noise


def cached_latents(
    images: ImageRows,
    labels: Int[Tensor, " n"],
    *,
    autoencoder: str,
    flip: bool,
    cache: Path,
    load_autoencoder: Callable[[], Encoder],
) -> LatentSet:
    """Latents of `images` from `cache`, encoded now if nobody has.

    Args:
        images: what is encoded.
        labels: class of each image.
        autoencoder: digest of the autoencoder's files.
        flip: whether to encode mirrored images too.
        cache: the shared cache folder.
        load_autoencoder: called only if the cache has to be made.
    """

    def build(folder: Path) -> None:
        encoder = load_autoencoder()
        pixels = np.asarray(images)
        sides = [pixels, pixels[:, :, ::-1]] if flip else [pixels]
        means, stds = zip(*(encoder.encode(np.ascontiguousarray(side)) for side in sides), strict=True)
        save_tensors({"mean": torch.stack(means), "std": torch.stack(stds), "labels": labels}, folder / _FILE)

    inputs = {
        "format": _FORMAT,
        "images": pixels_digest(images),
        "labels": array_digest(labels.numpy()),
        "autoencoder": autoencoder,
        "flip": flip,
    }
    path = build_once(place_of(cache, "latents", inputs), build) / _FILE
    # Read back also by the run that made it: both then train on the same bytes.
    tensors = load_file(path)
    return LatentSet(tensors["mean"], tensors["std"], tensors["labels"], sha256_file(path))
