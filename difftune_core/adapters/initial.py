"""First values of adapters: a function of (seed, name), whatever the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from difftune_core.runtime.rng import generator


def uniform(like: Tensor, bound: float, *, seed: int, name: str) -> Tensor:
    """Values in [-bound, bound] of the shape, type and device of `like`."""
    values = torch.empty(like.shape).uniform_(-bound, bound, generator=generator(seed, "adapter", name))
    return values.to(like.device, like.dtype)


def by_fan_in(weight: Tensor, *, seed: int, name: str) -> Tensor:
    """Kaiming's uniform with a = sqrt(5), a linear layer's usual start: bound 1 / sqrt(inputs). [out, in]."""
    return uniform(weight, 1 / math.sqrt(weight.shape[1]), seed=seed, name=name)
