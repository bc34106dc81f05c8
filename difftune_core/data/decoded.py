"""Data sets in memory: the pixels of every image, what belongs to them, and what identifies them.

Shapes: n images, s pixels a side, k chosen images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from difftune_core.data.copies import Key, copy_keys
from difftune_core.data.dataset import CaptionedSet, ImageFolder, load_pixels
from difftune_core.files import sha256_json
from difftune_core.runtime.caches import contents_digest

DecodedT = TypeVar("DecodedT", bound="Decoded")


@dataclass(frozen=True)
class Decoded(ABC):
    """Decoded images of a data set, or some of them, all of one size."""

    pixels: UInt8[np.ndarray, "n s s 3"]
    contents: tuple[tuple[str | None, ...], ...]
    """Class or caption, and sha256 of each file, of each image in the order of `pixels`."""
    earlier_digest: str
    """What version 0.3.0 called them in its checkpoints. Different images can have the same one."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.contents)

    @property
    def digest(self) -> str:
        """Identifies labels and contents in order."""
        return contents_digest(self.contents)

    @cached_property
    def keys(self) -> list[Key]:
        """Of each image, equal for copies."""
        return copy_keys(self.pixels)

    @property
    def names(self) -> list[str]:
        """Class or caption of each image."""
        return [str(label) for label, *_ in self.contents]

    @abstractmethod
    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """What version 0.3.0 called some of the images, and called `choice`."""

    @abstractmethod
    def chosen(self, indices: Int[Tensor, " k"]) -> dict[str, Any]:
        """The fields of its own for some of the images."""

    def subset(self: DecodedT, indices: Int[Tensor, " k"], choice: str) -> DecodedT:  # noqa: PYI019  beartype knows no Self here
        """Some of the images; `choice` is what version 0.3.0 called them."""
        places = indices.tolist()
        return replace(
            self,
            pixels=self.pixels[places],
            contents=tuple(self.contents[place] for place in places),
            earlier_digest=self.earlier_digest_of(indices, choice),
            **self.chosen(indices),
        )


@dataclass(frozen=True)
class Images(Decoded):
    """Images with labels."""

    labels: Int[Tensor, " n"]

    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """The number of images, and the sum of their places."""
        return f"{self.earlier_digest}:{choice}:{len(indices)}:{int(indices.sum())}"

    def chosen(self, indices: Int[Tensor, " k"]) -> dict[str, Any]:
        """Their labels."""
        return {"labels": self.labels[indices]}


@dataclass(frozen=True)
class Rows(Decoded):
    """Images with captions."""

    controls: UInt8[np.ndarray, "n s s 3"] | None
    """None where they are to be drawn."""

    @property
    def captions(self) -> tuple[str, ...]:
        """The rows' captions."""
        return tuple(self.names)

    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """A digest of their places."""
        return sha256_json([self.earlier_digest, choice, indices.tolist()])

    def chosen(self, indices: Int[Tensor, " k"]) -> dict[str, Any]:
        """Their control images."""
        return {"controls": None if self.controls is None else self.controls[indices.tolist()]}


def decoded(dataset: ImageFolder, size: int) -> Images:
    """All images of a data set at `size` pixels a side.

    Raises:
        TaskError: as `data.dataset.iter_files`.
    """
    contents = dataset.contents
    earlier = sha256_json(sorted(contents))
    return Images(load_pixels(dataset, size)["image"], contents, earlier, torch.from_numpy(dataset.labels))


def load_rows(dataset: CaptionedSet, size: int) -> Rows:
    """All images of a captioned data set at `size` pixels a side, and their control images where it has them.

    Raises:
        TaskError: as `data.dataset.iter_files`.
    """
    pixels = load_pixels(dataset, size)
    return Rows(pixels["image"], dataset.contents, dataset.digest, pixels.get("control"))
