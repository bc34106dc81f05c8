"""Data sets at a run's size: their images, decoded when they are asked for, what belongs to them, what identifies them.

Shapes: n images, s pixels a side, k chosen images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from difftune_core.data.columns import Computed
from difftune_core.data.copies import Key, copy_keys
from difftune_core.data.crops import Crop
from difftune_core.data.dataset import CaptionedSet, ImageFolder
from difftune_core.data.item_files import ItemFiles
from difftune_core.data.pixels import ImageRows, Pixels, chosen
from difftune_core.files import sha256_json
from difftune_core.runtime.caches import contents_digest

DecodedT = TypeVar("DecodedT", bound="Decoded")


@dataclass(frozen=True)
class Decoded(ABC):
    """Images of a data set, or some of them, all of one size."""

    pixels: ImageRows
    contents: Sequence[tuple[str | None, ...]]
    """Class or caption, and sha256 of each file, of each image in the order of `pixels`."""
    earlier_digest: str
    """What version 0.3.0 called the images in its checkpoints. Different images can have the same one."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.contents)

    @cached_property
    def digest(self) -> str:
        """Identifies labels and contents in order."""
        return contents_digest(self.contents)

    @cached_property
    def keys(self) -> Sequence[Key]:
        """A key of each image, equal for copies."""
        return self.pixels.keys if isinstance(self.pixels, Pixels) else copy_keys(self.pixels[:])

    @property
    def names(self) -> list[str]:
        """Class or caption of each image."""
        return [str(label) for label, *_ in self.contents]

    @abstractmethod
    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """Return what version 0.3.0 called some of the images, and called `choice`."""

    @abstractmethod
    def chosen(self, indices: Int[Tensor, " k"]) -> dict[str, Any]:
        """The fields of its own for some of the images."""

    def cropped(self: DecodedT, crop: Crop) -> DecodedT:  # noqa: PYI019  beartype knows no Self here
        """Return the same images, made square in another way; those that are no longer files stay as they are."""
        if not isinstance(self.pixels, Pixels) or crop == self.pixels.crop:
            return self
        return replace(self, pixels=self.pixels.cropped(crop), **self.controls_cropped(crop))

    def controls_cropped(self, crop: Crop) -> dict[str, Any]:
        """The fields of its own that are images too, made square likewise."""
        del crop
        return {}

    def subset(self: DecodedT, indices: Int[Tensor, " k"], choice: str) -> DecodedT:  # noqa: PYI019  beartype knows no Self here
        """Return some of the images; `choice` is what version 0.3.0 called them."""
        places = indices.tolist()
        return replace(
            self,
            pixels=chosen(self.pixels, places),
            contents=Computed(len(places), lambda place: self.contents[places[place]]),
            earlier_digest=self.earlier_digest_of(indices, choice),
            **self.chosen(indices),
        )


@dataclass(frozen=True)
class Images(Decoded):
    """Images with labels."""

    labels: Int[Tensor, " n"]

    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """Return the number of images and the sum of their places."""
        return f"{self.earlier_digest}:{choice}:{len(indices)}:{int(indices.sum())}"

    def chosen(self, indices: Int[Tensor, " k"]) -> dict[str, Any]:
        """Return the labels of some of the images."""
        return {"labels": self.labels[indices]}


@dataclass(frozen=True)
class Rows(Decoded):
    """Images with captions."""

    controls: ImageRows | None
    """The controls; None where they are to be drawn."""

    @property
    def captions(self) -> tuple[str, ...]:
        """The rows' captions."""
        return tuple(self.names)

    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """Return a digest of the images' places."""
        return sha256_json([self.earlier_digest, choice, indices.tolist()])

    def controls_cropped(self, crop: Crop) -> dict[str, Any]:
        """Return the control images of the same images."""
        return {"controls": self.controls.cropped(crop) if isinstance(self.controls, Pixels) else self.controls}

    def chosen(self, indices: Int[Tensor, " k"]) -> dict[str, Any]:
        """Return the control images of the same images."""
        return {"controls": None if self.controls is None else chosen(self.controls, indices.tolist())}


def decoded(dataset: ImageFolder, size: int, cache: Path | None = None) -> Images:
    """Make all images of a data set at `size` pixels a side; `cache` is the folder where what they show is kept."""
    contents, labels = dataset.contents, dataset.labels
    sha256 = np.array([bytes.fromhex(item.sha256) for item in dataset.items])
    order = np.lexsort((sha256, labels))  # as the contents themselves are sorted: labels follow the classes' names
    earlier = contents_digest(contents[place] for place in order.tolist())
    pixels = Pixels(ItemFiles(dataset, cache), "image", size, cache=cache)
    return Images(pixels, contents, earlier, torch.from_numpy(labels))


def load_rows(dataset: CaptionedSet, size: int, cache: Path | None = None) -> Rows:
    """Load all images of a captioned data set at `size` pixels a side, and their control images where it has them."""
    files = ItemFiles(dataset, cache)
    controls = Pixels(files, "control", size, cache=cache) if dataset.has_controls else None
    return Rows(Pixels(files, "image", size, cache=cache), dataset.contents, dataset.digest, controls)
