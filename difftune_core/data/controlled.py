"""What a ControlNet trains on: latents, control images and text states of a captioned set, each made once.

Shapes: n rows, b of a batch, m distinct prompts, s pixels a side, l tokens of width d, c latent channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int, UInt8
from safetensors.torch import load_file
from torch import Tensor

from difftune_core.data.captioned import CaptionedSet, iter_files
from difftune_core.data.conditions import Annotator
from difftune_core.data.copies import Key, copy_keys
from difftune_core.data.latents import LatentSet
from difftune_core.files import build_once, sha256_json
from difftune_core.hooks import TaskError
from difftune_core.runtime.caches import array_digest, contents_digest, place_of
from difftune_core.runtime.tensors import save_tensors

_FORMAT = 1
_FILE = "controls.safetensors"


@dataclass(frozen=True)
class Rows:
    """Decoded rows of a captioned set, all of one size."""

    pixels: UInt8[np.ndarray, "n s s 3"]
    controls: UInt8[np.ndarray, "n s s 3"] | None
    """None where they are to be drawn."""
    contents: tuple[tuple[str, str, str | None], ...]
    """Caption, and sha256 of the files of image and control of each row, in the order of `pixels`."""
    earlier_digest: str
    """What version 0.3.0 called them in its checkpoints."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.contents)

    @property
    def captions(self) -> tuple[str, ...]:
        """The rows' captions."""
        return tuple(caption for caption, _, _ in self.contents)

    @property
    def digest(self) -> str:
        """Identifies captions and contents in order."""
        return contents_digest(self.contents)

    @cached_property
    def keys(self) -> list[Key]:
        """Of the image of each row, equal for copies."""
        return copy_keys(self.pixels)

    @property
    def names(self) -> list[str]:
        """Caption of each row."""
        return list(self.captions)

    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """What version 0.3.0 called some of the rows, and called `choice`."""
        return sha256_json([self.earlier_digest, choice, indices.tolist()])

    def subset(self, indices: Int[Tensor, " k"], choice: str) -> Rows:
        """Some of the rows; `choice` is what version 0.3.0 called them."""
        chosen = indices.tolist()
        return Rows(
            pixels=self.pixels[chosen],
            controls=None if self.controls is None else self.controls[chosen],
            contents=tuple(self.contents[index] for index in chosen),
            earlier_digest=self.earlier_digest_of(indices, choice),
        )


@dataclass(frozen=True)
class ControlledSet:
    """Rows ready for training. Latents and controls are on the run's device; text states stay on the CPU."""

    latents: LatentSet
    controls: UInt8[Tensor, "n 3 s s"]
    text: Float16[Tensor, "m l d"]
    prompt: Int[Tensor, " n"]
    """Row of `text` for each image."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.prompt)

    def text_of(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b l d"]:
        """Text states of these rows of `text`, on the latents' device."""
        return self.text[rows].to(self.latents.mean.device).float()


def load_rows(dataset: CaptionedSet, size: int) -> Rows:
    """Decode a captioned set: images, captions, and control images where it has them."""
    shape = (len(dataset), size, size, 3)
    pixels = np.empty(shape, np.uint8)
    controls = np.empty(shape, np.uint8) if dataset.has_controls else None
    for role, places, image in iter_files(dataset, size):
        target = pixels if role == "image" else controls
        assert target is not None, "a control image in a set without them"
        target[places] = image
    return Rows(pixels, controls, tuple(item.contents for item in dataset.items), dataset.digest)


def cached_controls(
    pixels: UInt8[np.ndarray, "n s s 3"],
    *,
    condition: str,
    drawn_by: str,
    cache: Path,
    load_annotator: Callable[[], Annotator],
    progress: Callable[[int], None] | None = None,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Control images drawn from pictures, once for all runs that share them.

    Args:
        pixels: the pictures.
        condition: what is drawn.
        drawn_by: identifies the annotator.
        cache: the shared cache folder.
        load_annotator: called only if the cache has to be made.
        progress: hears how many pictures are done.
    """

    def build(folder: Path) -> None:
        draw = load_annotator()
        drawn = np.empty_like(pixels)
        for number, image in enumerate(pixels):
            drawn[number] = draw(image)
            if progress is not None:
                progress(number + 1)
        save_tensors({"controls": torch.from_numpy(drawn)}, folder / _FILE)

    inputs = {"format": _FORMAT, "images": array_digest(pixels), "condition": condition, "drawn_by": drawn_by}
    path = build_once(place_of(cache, "controls", inputs), build) / _FILE
    return np.asarray(load_file(path)["controls"].numpy())


def as_channels(controls: UInt8[np.ndarray, "n s s 3"]) -> UInt8[Tensor, "n 3 s s"]:
    """Channels first, as networks take them."""
    return torch.from_numpy(np.ascontiguousarray(controls.transpose(0, 3, 1, 2)))


def check_rows(rows: Rows, at_least: int, what: str) -> None:
    """Refuse a set that is too small.

    Raises:
        TaskError: `too_few_images`.
    """
    if len(rows) < at_least:
        raise TaskError(
            "too_few_images", f"{what} has {len(rows)} rows; at least {at_least} are needed", "training_file"
        )
