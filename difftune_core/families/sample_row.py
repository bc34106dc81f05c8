"""What a family draws on the way: a row of images, the same each time but for the model. Shapes: k images, s pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import UInt8
from torch import nn

from difftune_core.diffusion.reverse import Sampling
from difftune_core.interruption import Progress

Model = TypeVar("Model", bound=nn.Module)
Pixels = UInt8[np.ndarray, "k s s 3"]


@dataclass(frozen=True)
class SampleRow(Generic[Model]):
    """The images of a row, and how they are drawn."""

    names: tuple[str, ...]
    """Names of the images: classes, or prompts."""
    draw: Callable[[Model, Sampling, Progress], Pixels]
    """Draws images with a model, in a way, and tells a listener of those done; their noise is a function of seed and
    place."""
    followed: Pixels | None = None
    """What the images are to follow: controls."""
    followed_name: str = ""
    """What the images follow, in words."""
