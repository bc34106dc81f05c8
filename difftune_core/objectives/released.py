"""The authors' released code: a fixed share of the batch is retention, and each source has a law of t of its own."""

from __future__ import annotations

import torch

from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.diffusion.process import DDPM, Process
from difftune_core.hooks import TaskError
from difftune_core.objectives.draws import Draws
from difftune_core.objectives.laws import draw_timesteps, power_law
from difftune_core.runtime.rng import generator


def draw(hyperparameters: DiffTuningHyperparameters, *, seed: int, step: int, process: Process) -> Draws:
    """The last share of the batch is retention. The loss is mean(target) + weight * mean(retention); tau is its
    `prob_scale`.

    Raises:
        TaskError: `recipe_not_for_process`.
    """
    size, num_timesteps = hyperparameters.batch_size, _num_timesteps(process)
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


def _num_timesteps(process: Process) -> int:
    if isinstance(process, DDPM):
        return process.schedule.num_timesteps
    field = "method.diff_tuning.hyperparameters.recipe"
    raise TaskError("recipe_not_for_process", "the recipe 'released' draws DDPM timesteps; this model has none", field)
