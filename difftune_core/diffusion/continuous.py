"""What processes of a continuous time share. Shapes: b images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

ContinuousT = TypeVar("ContinuousT", bound="Continuous")


@dataclass(frozen=True)
class Continuous:
    """A process whose time is a real number, so that there are no tables."""

    def to(self: ContinuousT, device: torch.device | str) -> ContinuousT:  # noqa: ARG002, PYI019  beartype knows no Self
        """Return itself: there are no tables."""
        return self


def quantiles(count: int, stream: torch.Generator, share: tuple[float, float]) -> Float64[Tensor, " {count}"]:
    """Draw quantiles of the law of times, uniform within `share`."""
    low, high = share
    return low + (high - low) * torch.rand(count, generator=stream, dtype=torch.float64)


def shaped(t: Tensor, like: Tensor) -> Tensor:
    """Shape values, one an image, so that they multiply `like`."""
    return t.reshape(-1, *[1] * (like.ndim - 1))
