"""Drawing the images of an evaluation in several processes: each draws whole parts, as one process would draw them.

A part is what is looked at together, and its batches begin where they would begin in one process. So images are equal
for any number of processes. They come by files: nobody waits in a collective for a process that a stop has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from difftune_core.data.pixels import Made
from difftune_core.interruption import Progress, interruption_point

AT_ONCE = 256
"""Images that are looked at together: a multiple of every batch, so that figures are those of all images at once."""
_POLL_S = 0.01
Ask = Callable[[dict[str, Any]], Path]
"""Asks the other processes to draw; returns the folder where their parts will be."""


@dataclass
class Together:
    """The processes that draw beside this one; none, until they join."""

    world: int = 1
    model: nn.Module | None = None
    """The model that all processes have: the run's average."""
    ask: Ask | None = None

    def join(self, world: int, model: nn.Module, ask: Ask) -> None:
        """Draw `model`'s images with the others from now on."""
        self.world, self.model, self.ask = world, model, ask

    def leave(self) -> None:
        """Draw alone again."""
        self.world, self.model, self.ask = 1, None, None

    def spread(
        self,
        made: Made,
        model: nn.Module | None,
        which: Int[Tensor, " n"],
        progress: Progress | None = None,
        *,
        is_base: bool = False,
        **how: Any,
    ) -> Made:
        """Have others draw some parts of the same images; `which` and `how` tell them what a judge's `drawn` takes.

        Of another model than the average and the base model, and of a part alone, this process draws all.
        """
        if self.ask is None or len(made) <= AT_ONCE or not (is_base or model is self.model):
            return made
        request = {"is_base": is_base, "which": which.tolist(), "how": how}
        return Made(made.shape, _Spread(made, self.ask, self.world, request, progress))


class _Spread:
    """Makes own parts, and fetches those of others once; what is asked for otherwise is made here."""

    def __init__(self, made: Made, ask: Ask, world: int, request: dict[str, Any], progress: Progress | None) -> None:
        self._made, self._ask, self._world, self._request, self._progress = made, ask, world, request, progress
        self._folder: Path | None = None

    def __call__(self, start: int, stop: int) -> UInt8[np.ndarray, "_ s s 3"]:
        if self._folder is None:
            self._folder = self._ask(self._request)
        path = part_path(self._folder, start)
        of_others = start % AT_ONCE == 0 and (start // AT_ONCE) % self._world != 0
        if not of_others or stop != min(start + AT_ONCE, len(self._made)) or path.with_suffix(".taken").exists():
            return self._made.make(start, stop)
        while not path.exists():
            interruption_point()
            time.sleep(_POLL_S)
        images: UInt8[np.ndarray, "_ s s 3"] = np.load(path)
        path.rename(path.with_suffix(".taken")).write_bytes(b"")  # its room is needed for the parts after it
        if self._progress is not None:
            self._progress(stop)
        return images


def draw_parts(images: Made, folder: Path, *, rank: int, world: int) -> None:
    """Draw the parts that are this process's, each into a file of its own that gets its name when it is whole."""
    for start in range(rank * AT_ONCE, len(images), world * AT_ONCE):
        path = part_path(folder, start)
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            np.save(file, images[start : start + AT_ONCE])
        aside.replace(path)


def part_path(folder: Path, start: int) -> Path:
    """Return where the part that begins with image `start` is put."""
    return folder / f"{start:09d}.npy"
