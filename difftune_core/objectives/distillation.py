"""Retention by knowledge distillation instead of a retention set (Diff-Tuning, App. C).

The tuned model is held to the frozen base model's prediction on noised target images. Both are asked under their own
null label: the base model has no row for the target's classes, and retention acts on the null branch. The prediction
alone is held, not a learned variance. Shapes: k slots of the distillation, c latent channels, h w their size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.diffusion.process import Process
from difftune_core.objectives import algorithm1
from difftune_core.objectives.draws import Draws


def draw(hyperparameters: DiffTuningHyperparameters, *, seed: int, step: int, process: Process) -> Draws:
    """The slots that retention would have in Algorithm 1 are the teacher's, at a small weight.

    In expectation that is psi(t) of the target loss plus `distillation_weight` of E[xi(t) ||f_0 - f||^2], with one pass
    of the student a step.
    """
    draws = algorithm1.draw(hyperparameters, seed=seed, step=step, process=process)
    weight = torch.where(draws.is_target, 1.0, hyperparameters.distillation_weight)
    return Draws(draws.t, draws.is_target, draws.weight * weight)


def distillation_loss(
    output: Float[Tensor, "k out h w"], taught: Float[Tensor, "k c h w"], weight: Float[Tensor, " k"] | None
) -> Float[Tensor, " k"]:
    """||f_theta0(x_t) - f_theta(x_t)||^2 of each slot, as a mean over its elements.

    Args:
        output: of the tuned model, without a condition.
        taught: the base model's prediction from the same latents and times.
        weight: of the squared error at each slot's time; None for 1.
    """
    error = (output[:, : taught.shape[1]] - taught).square().flatten(1).mean(1)
    return error if weight is None else error * weight
