"""The paper's Algorithm 1 (Diff-Tuning, App. B.2): the source of each slot is drawn by psi(t)."""

from __future__ import annotations

import torch

from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.diffusion.process import Process
from difftune_core.objectives.draws import Draws
from difftune_core.objectives.laws import psi
from difftune_core.runtime.rng import generator


def draw(hyperparameters: DiffTuningHyperparameters, *, seed: int, step: int, process: Process) -> Draws:
    """T as in training; a slot is target with probability psi(t), else retention; unweighted loss.

    The two ablations keep their expected losses, psi l_target and l_target + xi l_retention, by weights.
    """
    t = process.draw_times(hyperparameters.batch_size, generator(seed, step, "timestep"))
    target = psi(hyperparameters, process, t)
    chance = torch.rand(len(t), dtype=torch.float64, generator=generator(seed, step, "source"))
    if hyperparameters.components == "reconsolidation":
        return Draws(t, torch.ones_like(t, dtype=torch.bool), target.float())
    if hyperparameters.components == "retention":
        total = 2 - target  # 1 for the target and xi = 1 - psi for retention
        return Draws(t, chance < 1 / total, total.float())
    return Draws(t, chance < target, torch.ones(len(t)))
