"""Which time and which source each slot of a batch gets: all that distinguishes one method from another.

The draws of a step are a function of (seed, step). Two methods with the same seed see the same images and noise slot by
slot, and the same times where both draw them uniformly; they differ in which slots the retention set takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from difftune_core.config.transfer import DiffTuning, DiffTuningHyperparameters, Supervised
from difftune_core.diffusion.process import DDPM, Process
from difftune_core.hooks import TaskError
from difftune_core.objectives.laws import draw_timesteps, power_law, psi
from difftune_core.runtime.rng import generator


@dataclass(frozen=True)
class Draws:
    """One step's choices for b slots."""

    t: Real[Tensor, " b"]
    """Time of the process; for DDPM the timestep index, 0..T-1."""
    is_target: Bool[Tensor, " b"]
    """Whether the slot learns the target data; else, with the null label, it retains what the base model knows."""
    weight: Float[Tensor, " b"]
    """Weight of the slot's loss; the step's loss is the mean of the weighted losses."""


def draw(method: Supervised | DiffTuning, *, seed: int, step: int, process: Process) -> Draws:
    """The draws of one optimizer step. `supervised` is psi = 1, so tau = 0 gives the same draws bit for bit."""
    if isinstance(method, DiffTuning) and method.hyperparameters.recipe == "released":
        return _released(method.hyperparameters, seed=seed, step=step, num_timesteps=_num_timesteps(process))
    size = method.hyperparameters.batch_size
    t = process.draw_times(size, generator(seed, step, "timestep"))
    if isinstance(method, Supervised):
        return Draws(t, torch.ones(size, dtype=torch.bool), torch.ones(size))
    draws = _algorithm1(method.hyperparameters, t, generator(seed, step, "source"), process)
    return _distilled(method.hyperparameters, draws) if method.hyperparameters.recipe == "distillation" else draws


def _algorithm1(
    hyperparameters: DiffTuningHyperparameters, t: Real[Tensor, " b"], stream: torch.Generator, process: Process
) -> Draws:
    """The paper's Algorithm 1 (App. B.2): a slot is target with probability psi(t), else retention; unweighted loss.

    The two ablations keep their expected losses, psi l_target and l_target + xi l_retention, by weights.
    """
    target = psi(hyperparameters, process, t)
    chance = torch.rand(len(t), dtype=torch.float64, generator=stream)
    if hyperparameters.components == "reconsolidation":
        return Draws(t, torch.ones_like(t, dtype=torch.bool), target.float())
    if hyperparameters.components == "retention":
        total = 2 - target  # 1 for the target and xi = 1 - psi for retention
        return Draws(t, chance < 1 / total, total.float())
    return Draws(t, chance < target, torch.ones(len(t)))


def _distilled(hyperparameters: DiffTuningHyperparameters, draws: Draws) -> Draws:
    """Knowledge distillation (App. C): the slots that retention would have are the teacher's, at a small weight.

    In expectation that is psi(t) of the target loss plus `distillation_weight` of E[xi(t) ||f_0 - f||^2], with one pass
    of the student a step.
    """
    weight = torch.where(draws.is_target, 1.0, hyperparameters.distillation_weight)
    return Draws(draws.t, draws.is_target, draws.weight * weight)


def _num_timesteps(process: Process) -> int:
    if isinstance(process, DDPM):
        return process.schedule.num_timesteps
    field = "method.diff_tuning.hyperparameters.recipe"
    raise TaskError("recipe_not_for_process", "the recipe 'released' draws DDPM timesteps; this model has none", field)


def _released(hyperparameters: DiffTuningHyperparameters, *, seed: int, step: int, num_timesteps: int) -> Draws:
    """The authors' code: the last share of the batch is retention, and each source has a law of t of its own.

    Its loss is mean(target) + weight * mean(retention); tau is its `prob_scale`.
    """
    size = hyperparameters.batch_size
    kept = int(size * hyperparameters.retention_share)
    laws = [power_law(num_timesteps, hyperparameters.tau, rising=rising) for rising in (True, False)]
    counts = (size - kept, kept)
    t = torch.cat(
        [
            draw_timesteps(law, count, generator(seed, step, "timestep", i))
            for i, (law, count) in enumerate(zip(laws, counts, strict=True))
            if count
        ]
    )
    is_target = torch.arange(size) < counts[0]
    weight = torch.full((size,), size / counts[0])
    weight[counts[0] :] = hyperparameters.retention_weight * size / max(kept, 1)
    return Draws(t, is_target, weight)
