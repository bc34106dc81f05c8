"""A data set of class folders in memory: pixels, labels, and what identifies them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from difftune_core.data.copies import Key, copy_keys
from difftune_core.data.dataset import ImageFolder, load_images
from difftune_core.files import sha256_json
from difftune_core.runtime.caches import contents_digest


@dataclass(frozen=True)
class Images:
    """Decoded images of a data set, or some of them."""

    pixels: UInt8[np.ndarray, "n s s 3"]
    labels: Int[Tensor, " n"]
    contents: tuple[tuple[str, str], ...]
    """Class name and sha256 of the file of each image, in the order of `pixels`."""
    earlier_digest: str
    """What version 0.3.0 called them in its checkpoints. Different images can have the same one."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.contents)

    @property
    def digest(self) -> str:
        """Identifies classes and contents in order."""
        return contents_digest(self.contents)

    @cached_property
    def keys(self) -> list[Key]:
        """Of each image, equal for copies."""
        return copy_keys(self.pixels)

    @property
    def names(self) -> list[str]:
        """Class name of each image."""
        return [name for name, _ in self.contents]

    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """What version 0.3.0 called some of the images, and called `choice`."""
        return f"{self.earlier_digest}:{choice}:{len(indices)}:{int(indices.sum())}"

    def subset(self, indices: Int[Tensor, " k"], choice: str) -> Images:
        """Some of the images; `choice` is what version 0.3.0 called them."""
        chosen = indices.tolist()
        return Images(
            self.pixels[chosen],
            self.labels[indices],
            tuple(self.contents[index] for index in chosen),
            self.earlier_digest_of(indices, choice),
        )


def decoded(dataset: ImageFolder, size: int) -> Images:
    """All images of a data set at `size` pixels a side.

    Raises:
        TaskError: as `load_images`.
    """
    pixels, labels = load_images(dataset, size)
    contents = dataset.contents
    return Images(pixels, torch.from_numpy(labels), contents, sha256_json(sorted(contents)))
