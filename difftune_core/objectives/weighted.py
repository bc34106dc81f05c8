"""A fixed share of retention beside a target whose loss is weighed by t: both can be had without each other.

The recipe `released` draws the target's timesteps by psi, and so weighs the target's loss and retains at once. Here the
weight of retention may also fall to nothing over the run.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.config.weighting import Decay, LossWeighting, WeightedSettings
from difftune_core.diffusion.process import DDPM, Process
from difftune_core.hooks import TaskError
from difftune_core.objectives.draws import Draws
from difftune_core.objectives.laws import draw_timesteps, mse_weight, power_law, psi
from difftune_core.runtime.rng import generator


def draw(hyperparameters: DiffTuningHyperparameters, *, seed: int, step: int, process: Process) -> Draws:
    """T uniform for the target, its loss weighed; the last share of the batch is retention, with `released`'s law of t.

    The loss is mean(weight(t) target) + retention weight * mean(retention). A weight is divided by its mean over t, so
    that retention has the same part in the loss beside each of them. Without weight and share the draws are those of
    plain fine-tuning, bit for bit.

    Raises:
        TaskError: `recipe_not_for_process`.
    """
    if not isinstance(process, DDPM):
        field = "method.diff_tuning.hyperparameters.recipe"
        raise TaskError("recipe_not_for_process", "the recipe 'weighted' draws DDPM timesteps", field)
    own = WeightedSettings.model_validate(hyperparameters.recipe_settings or {})
    size = hyperparameters.batch_size
    kept = int(size * own.share)
    t = process.draw_times(size, generator(seed, step, "timestep"))
    weight = torch.ones(size)
    if own.weighting != "none":
        weight = target_weight(own.weighting, hyperparameters, process)[t]
    if kept:
        law = power_law(process.schedule.num_timesteps, hyperparameters.tau, rising=False)
        t[size - kept :] = draw_timesteps(law, kept, generator(seed, step, "timestep", 1))
        weight = weight * (size / (size - kept))
        left = remaining(own.decay, step, hyperparameters.max_steps)
        weight[size - kept :] = own.weight * left * size / kept
    return Draws(t, torch.arange(size) < size - kept, weight)


def target_weight(
    kind: LossWeighting, hyperparameters: DiffTuningHyperparameters, process: DDPM
) -> Float[Tensor, " T"]:
    """The weight of a target slot at each timestep, with mean 1: `p2`, `min_snr`, or psi with the method's tau."""
    t: Int[Tensor, " T"] = torch.arange(process.schedule.num_timesteps)
    on_cpu = process.to("cpu")
    found = psi(hyperparameters, on_cpu, t) if kind == "psi" else mse_weight(kind, on_cpu, t)
    assert found is not None, "asked for with a weight"
    return (found / found.mean()).float()


def remaining(decay: Decay, step: int, max_steps: int) -> float:
    """Share left of the retention weight at optimizer step `step`, from 0: 1 at the first, 0 after the last."""
    done = step / max_steps
    return {"none": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[decay]
