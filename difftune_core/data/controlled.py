"""What a ControlNet trains on: latents, control images and text states of a captioned set, each made once.

Shapes: n rows, b of a batch, k chosen ones, m distinct prompts, s pixels a side, l tokens of width d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int, UInt8
from torch import Tensor

from difftune_core.data.conditions import Annotator
from difftune_core.data.decoded import Rows
from difftune_core.data.latents import Latents
from difftune_core.data.pixels import BLOCK, ImageRows, parts_of, pixels_digest
from difftune_core.files import build_once
from difftune_core.hooks import TaskError
from difftune_core.runtime.caches import place_of
from difftune_core.runtime.mapped import Mapped
from difftune_core.runtime.residency import is_resident
from difftune_core.runtime.sharded import Block, Sharded, StoredRows, rows_of_a_shard, write_shards
from difftune_core.runtime.tensors import sent

_FORMAT = 1
_WHOLE = "controls.safetensors"
"""The one file of a cache that version 0.3.0 made."""
_NAME = "controls"


@dataclass(frozen=True)
class StoredControls:
    """Control images that stay in the files of the cache; a batch reads its own and brings them to the device."""

    rows: Sharded
    device: torch.device

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __getitem__(self, chosen: slice | Int[Tensor, " k"]) -> UInt8[Tensor, "k 3 s s"]:
        """Return the control images at some places (indices on the CPU), on the device."""
        indices = torch.arange(len(self))[chosen] if isinstance(chosen, slice) else chosen
        (found,) = self.rows.gather(indices, [_NAME])
        return sent(_channels_first(found), self.device)

    def prefetch(self, chosen: Int[Tensor, " k"]) -> None:
        """Begin to read some of the control images."""
        self.rows.prefetch(chosen, [_NAME])

    def resident(self) -> UInt8[Tensor, "n 3 s s"]:
        """Return all control images, on the device."""
        return torch.cat([_channels_first(part).to(self.device) for part in self.rows.parts(_NAME)])


@dataclass(frozen=True)
class ControlledSet:
    """Rows ready for training. Latents and controls come on the run's device; text states stay on the CPU."""

    latents: Latents
    controls: UInt8[Tensor, "n 3 s s"] | StoredControls
    text: Float16[Tensor, "m l d"] | StoredRows
    prompt: Int[Tensor, " n"]
    """Row of `text` for each image."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.prompt)

    def text_of(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b l d"]:
        """Text states of these rows of `text`, on the latents' device."""
        return sent(self.text[rows], self.latents.device).float()

    def controls_of(self, indices: Int[Tensor, " b"]) -> UInt8[Tensor, "b 3 s s"]:
        """Control images of these rows, whose places are on the CPU, on the device."""
        stored = isinstance(self.controls, StoredControls)
        return self.controls[indices if stored else sent(indices, self.controls.device)]

    def prefetch(self, indices: Int[Tensor, " b"]) -> None:
        """Begin to read controls and text states of the rows that are drawn next."""
        if isinstance(self.controls, StoredControls):
            self.controls.prefetch(indices)
        if isinstance(self.text, StoredRows):
            self.text.prefetch(self.prompt[indices])


def cached_controls(
    pixels: ImageRows,
    *,
    condition: str,
    drawn_by: str,
    cache: Path,
    load_annotator: Callable[[], Annotator],
    progress: Callable[[int], None] | None = None,
) -> Sharded:
    """Control images drawn from pictures, once for all runs that share them.

    Args:
        pixels: the pictures.
        condition: what is drawn.
        drawn_by: identifies the annotator.
        cache: the shared cache folder.
        load_annotator: called only if the cache has to be made.
        progress: hears how many pictures are done.
    """

    def blocks(start: int) -> Iterator[Block]:
        draw = load_annotator()
        for part in parts_of(pixels, BLOCK, start):
            drawn = np.empty_like(part)
            for number, image in enumerate(part):
                drawn[number] = draw(image)
                start += 1
                if progress is not None:
                    progress(start)
            yield {_NAME: torch.from_numpy(drawn)}

    inputs = {"format": _FORMAT, "images": pixels_digest(pixels), "condition": condition, "drawn_by": drawn_by}
    return _cached(pixels, place_of(cache, "controls", inputs), blocks)


def given_controls(controls: ImageRows, device: torch.device, cache: Path) -> UInt8[Tensor, "n 3 s s"] | StoredControls:
    """Control images of a data set, decoded onto the device where there is room, else into the files of the cache."""
    if is_resident(int(np.prod(controls.shape)), device):
        return torch.cat([_channels_first(torch.from_numpy(part)).to(device) for part in parts_of(controls, BLOCK)])

    def blocks(start: int) -> Iterator[Block]:
        for part in parts_of(controls, BLOCK, start):
            yield {_NAME: torch.from_numpy(part)}

    inputs = {"format": _FORMAT, "given": pixels_digest(controls)}
    return StoredControls(_cached(controls, place_of(cache, "controls", inputs), blocks), device)


def controls_on(device: torch.device, rows: Sharded) -> UInt8[Tensor, "n 3 s s"] | StoredControls:
    """Control images of the cache: resident on the device where there is room."""
    stored = StoredControls(rows, device)
    return stored.resident() if is_resident(rows.nbytes(), device) else stored


def check_rows(rows: Rows, at_least: int, what: str) -> None:
    """Refuse a set that is too small.

    Raises:
        TaskError: `too_few_images`.
    """
    if len(rows) < at_least:
        raise TaskError(
            "too_few_images", f"{what} has {len(rows)} rows; at least {at_least} are needed", "training_file"
        )


def _cached(pixels: ImageRows, place: Path, blocks: Callable[[int], Iterator[Block]]) -> Sharded:
    parts = place.with_name(f".{place.name}.parts")
    rows = rows_of_a_shard(int(np.prod(pixels.shape[1:])), BLOCK)

    def build(folder: Path) -> None:
        write_shards(folder, parts, count=len(pixels), rows=rows, blocks=blocks)

    folder = build_once(place, build, parts)
    return Sharded([Mapped(folder / _WHOLE)]) if (folder / _WHOLE).exists() else Sharded.of_folder(folder)


def _channels_first(controls: UInt8[Tensor, "k s s 3"]) -> UInt8[Tensor, "k 3 s s"]:
    """Bring images into the order of axes in which networks take them."""
    return controls.permute(0, 3, 1, 2).contiguous()
