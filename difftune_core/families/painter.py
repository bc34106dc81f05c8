"""What draws images of a loaded model: a base model's, or a checkpoint's that was tuned from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from difftune_core.diffusion.reverse import Sampling
from difftune_core.interruption import Progress


@dataclass(frozen=True)
class Wanted:
    """What the images show."""

    label: int | None = None
    """The class; None draws without one."""
    prompt: str = ""
    control: UInt8[np.ndarray, "s s 3"] | None = None
    """What a ControlNet follows, of the size of the model's images."""
    conditioning_scale: float = 1.0


class Painter(ABC):
    """A model in memory."""

    @abstractmethod
    def draw(
        self, wanted: Wanted, sampling: Sampling, *, first: int, count: int, of_base: bool, progress: Progress
    ) -> UInt8[np.ndarray, "count s s 3"]:
        """Draw images `first ...`: the same number and seed begin with the same noise, whatever the model.

        Args:
            wanted: what they show.
            sampling: how they are drawn.
            first: number of the first.
            count: how many.
            of_base: whether the base model draws in place of the tuned one: a DiT without a class, because a tuned
                model has classes of its own; a Stable Diffusion without the control.
            progress: hears how many are done.

        Raises:
            Stopped: a stop was requested.
        """
