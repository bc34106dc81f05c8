"""The loss on held-out images by t: what training brings down, measured on what it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.data.latents import Latents
from difftune_core.diffusion.denoisers import Condition, Denoiser
from difftune_core.diffusion.process import Process
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.forgetting import LOSS_BATCH, NUM_BINS, loss_by_t

_MOST_IMAGES = 128
_SHARE = 5


def measured_rows(held_out: int, drawn: int, config: EvaluationConfig) -> Int64[np.ndarray, " n"]:
    """The held-out images whose loss is measured, spread evenly over all of them and so over their classes.

    At most 128, and so few that the loss takes at most a fifth of the network's passes by which images are drawn.

    Args:
        held_out: images that there are.
        drawn: images that an evaluation draws.
        config: how it draws them.
    """
    branches = 2 if Sampling.of(config).is_guided else 1
    passes = drawn * config.num_inference_steps * branches
    count = max(1, min(_MOST_IMAGES, held_out, passes // (_SHARE * NUM_BINS)))
    return np.arange(count) * held_out // count


def held_out_loss(
    denoise: Denoiser,
    latents: Latents,
    condition: Condition,
    process: Process,
    *,
    seed: int,
    at_once: int = LOSS_BATCH,
) -> dict[str, Any]:
    """The figure, and the curve by t that it is the mean of; times and noise are the same for all models of a seed.

    The network sees at most `at_once` images.
    """
    losses = loss_by_t(denoise, latents, process, seed=seed, condition=condition, at_once=at_once)
    return {"held_out_loss": float(np.mean(losses)), "held_out_loss_by_t": losses, "num_held_out": len(latents)}
