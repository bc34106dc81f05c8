"""How much of the base model is left: its own images under the null label, and its loss where Diff-Tuning retains.

Judged on a reference set sampled from the base model with a seed of its own, which no method trains on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.schedule import NoiseSchedule
from difftune_core.models.dit import DiT
from difftune_core.objectives.denoising import noised
from difftune_core.rng import generator

NUM_BINS = 10
_BATCH = 256


@torch.inference_mode()
def retention_loss_by_t(model: DiT, reference: LatentSet, schedule: NoiseSchedule, *, seed: int) -> list[float]:
    """Mean epsilon MSE on the reference set with the null label, in ten equal bins of t, the data's end first.

    Each image is noised once in each bin; timesteps and noise depend on the seed alone, so models are compared on the
    same draws.
    """
    device = model.pos_embed.device
    width = schedule.num_timesteps // NUM_BINS
    return [
        float(
            torch.cat(_bin_losses(model, reference.to(device), schedule, low=i * width, width=width, seed=seed)).mean()
        )
        for i in range(NUM_BINS)
    ]


@torch.no_grad()
def l2_from_base(trained: dict[str, Tensor], start: DiT) -> float:
    """||theta - theta0||^2 over the trained parameters, the paper's measure of forgetting ("EWC").

    Parameters that an adapter inserted count from their first values.
    """
    first = dict(start.named_parameters())
    return sum(float((tensor.double() - first[name].double()).square().sum()) for name, tensor in trained.items())


def _bin_losses(
    model: DiT, reference: LatentSet, schedule: NoiseSchedule, *, low: int, width: int, seed: int
) -> list[Tensor]:
    losses = []
    for start in range(0, len(reference), _BATCH):
        x0 = reference.mean[0, start : start + _BATCH].float()
        stream = generator(seed, "forgetting", low, start)
        t = (low + torch.randint(width, (len(x0),), generator=stream)).to(x0.device)
        noise = torch.randn(x0.shape, generator=stream).to(x0.device)
        batch = noised(x0, noise, t, schedule)
        output = model(batch.x_t, t.float(), torch.full_like(t, model.null_label))
        losses.append((output[:, : noise.shape[1]] - noise).square().flatten(1).mean(1))
    return losses
