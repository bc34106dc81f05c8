"""What a ControlNet trains on: latents, control images and text states of a captioned set, each made once.

Shapes: n rows, b of a batch, m distinct prompts, s pixels a side, l tokens of width d, c latent channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int, UInt8
from safetensors.torch import load_file
from torch import Tensor

from difftune_core.data.conditions import Annotator
from difftune_core.data.decoded import Rows
from difftune_core.data.latents import Latents
from difftune_core.data.pixels import ImageRows, pixels_digest
from difftune_core.files import build_once
from difftune_core.hooks import TaskError
from difftune_core.runtime.caches import place_of
from difftune_core.runtime.tensors import save_tensors, sent

_FORMAT = 1
_FILE = "controls.safetensors"


@dataclass(frozen=True)
class ControlledSet:
    """Rows ready for training. Latents and controls are on the run's device; text states stay on the CPU."""

    latents: Latents
    controls: UInt8[Tensor, "n 3 s s"]
    text: Float16[Tensor, "m l d"]
    prompt: Int[Tensor, " n"]
    """Row of `text` for each image."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.prompt)

    def text_of(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b l d"]:
        """Text states of these rows of `text`, on the latents' device."""
        return sent(self.text[rows], self.latents.device).float()


def cached_controls(
    pixels: ImageRows,
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
        drawn = np.empty(pixels.shape, np.uint8)
        for number in range(len(pixels)):
            drawn[number] = draw(pixels[number])
            if progress is not None:
                progress(number + 1)
        save_tensors({"controls": torch.from_numpy(drawn)}, folder / _FILE)

    inputs = {"format": _FORMAT, "images": pixels_digest(pixels), "condition": condition, "drawn_by": drawn_by}
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
