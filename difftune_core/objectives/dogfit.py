"""Domain Guidance learned into the weights, after DogFit (Bahram et al., AAAI 2026, arXiv 2508.05685).

What the network is to put out is moved away from the frozen base model's prediction under its null label, by a share
of the difference to the network's own, through which no gradient goes. With the share w = 1 - 1/s the loss is at rest
where the output is base + s (target - base): what Domain Guidance of scale s draws by two models, in one pass.

The paper gives the guidance strength to the network as a further input, to be chosen when drawing; here it is fixed, so
that the network stays the base model's and its export a plain pipeline. Shapes: b slots, c latent channels, h w their
size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.config.weighting import DogFitSettings
from difftune_core.diffusion.process import Process
from difftune_core.objectives.draws import Draws
from difftune_core.runtime.rng import generator


def draw(hyperparameters: DiffTuningHyperparameters, *, seed: int, step: int, process: Process) -> Draws:
    """Draw as plain fine-tuning does, bit for bit; from `start` on slots within the interval are guided."""
    own = DogFitSettings.model_validate(hyperparameters.recipe_settings or {})
    size = hyperparameters.batch_size
    t = process.draw_times(size, generator(seed, step, "timestep"))
    guidance = None
    if step >= own.start * hyperparameters.max_steps and own.scale > 1:
        low, high = own.interval
        level = process.level(t)
        guidance = torch.where((low <= level) & (level <= high), 1 - 1 / own.scale, 0.0).float()
    return Draws(t, torch.ones(size, dtype=torch.bool), torch.ones(size), guidance)


def unguided(
    output: Float[Tensor, "b out h w"], base: Float[Tensor, "b c h w"], guidance: Float[Tensor, " b"]
) -> Float[Tensor, "b out h w"]:
    """Take from an output what guidance has put into it, so that the rest is held to the target.

    To move the target and to take the same from the output is one loss with one gradient.

    Args:
        output: of the tuned model, under the slot's own label.
        base: the base model's prediction without a label, from the same latents and times.
        guidance: share of the difference, 0 for slots that are not guided.
    """
    channels = base.shape[1]
    shift = guidance[:, None, None, None] * (output[:, :channels].detach() - base)
    return torch.cat([output[:, :channels] - shift, output[:, channels:]], dim=1)
