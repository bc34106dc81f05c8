"""Plain fine-tuning: every slot learns the target, at a uniform time."""

from __future__ import annotations

import torch

from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.diffusion.process import Process
from difftune_core.objectives.draws import Draws
from difftune_core.runtime.rng import generator


def draw(hyperparameters: TrainingHyperparameters, *, seed: int, step: int, process: Process) -> Draws:
    """The draws of one optimizer step: psi is 1, so Diff-Tuning with tau = 0 has the same bit for bit."""
    size = hyperparameters.batch_size
    t = process.draw_times(size, generator(seed, step, "timestep"))
    return Draws(t, torch.ones(size, dtype=torch.bool), torch.ones(size))
