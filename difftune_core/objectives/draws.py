"""Which timestep and which source each slot of a batch gets: all that distinguishes one method from another.

The draws of a step are a function of (seed, step). Two methods with the same seed see the same timesteps, images and
noise slot by slot; they differ only in which slots the retention set takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from difftune_core.config import DiffTuning, Supervised
from difftune_core.rng import generator


@dataclass(frozen=True)
class Draws:
    """One step's choices for b slots."""

    t: Int[Tensor, " b"]
    """Timestep index, 0..T-1."""
    is_target: Bool[Tensor, " b"]
    """Whether the slot trains on the target data; else on the retention set with the null label."""


def psi(t: Int[Tensor, " b"], num_timesteps: int, tau: float) -> Float[Tensor, " b"]:
    """Weight of the target data, (t/T)^tau (Diff-Tuning sec. 3.3): 1 at pure noise, towards 0 at the data.

    The paper's t runs from 1 to T, so index t stands for t + 1.
    """
    return ((t + 1).double() / num_timesteps) ** tau


def uniform_timesteps(seed: int, step: int, batch_size: int, num_timesteps: int) -> Int[Tensor, " b"]:
    """Timestep indices, uniform over 0..T-1."""
    return torch.randint(num_timesteps, (batch_size,), generator=generator(seed, step, "timestep"))


def draw(method: Supervised | DiffTuning, *, seed: int, step: int, num_timesteps: int) -> Draws:
    """The draws of one optimizer step.

    `diff_tuning` follows the paper's Algorithm 1 (App. B.2): t uniform; the slot is target with probability psi(t),
    else retention; the loss is unweighted. `supervised` is psi = 1, so tau = 0 gives the same draws bit for bit.
    """
    batch_size = method.hyperparameters.batch_size
    t = uniform_timesteps(seed, step, batch_size, num_timesteps)
    if isinstance(method, Supervised):
        return Draws(t, torch.ones(batch_size, dtype=torch.bool))
    chance = torch.rand(batch_size, dtype=torch.float64, generator=generator(seed, step, "source"))
    return Draws(t, chance < psi(t, num_timesteps, method.hyperparameters.tau))
