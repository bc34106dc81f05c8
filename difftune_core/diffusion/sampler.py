"""The reverse process: images from noise, by diffusers' schedulers and classifier-free guidance.

Every image has its own random stream, a function of (seed, index), so that it does not depend on its batch.
Shapes: b images, c latent channels, h w their size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from difftune_core.diffusion.schedule import LINEAR_BETA_END, LINEAR_BETA_START
from difftune_core.models.dit import DiT
from difftune_core.rng import generator

_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are drawn; part of every figure's recipe."""

    sampler: Literal["ddim", "ddpm"] = "ddim"
    num_inference_steps: int = 50
    guidance_scale: float = 1.5
    seed: int = 0


def make_scheduler(sampler: Literal["ddim", "ddpm"], num_inference_steps: int, *, learn_sigma: bool = True) -> Any:
    """The scheduler (diffusers') for DiT's linear schedule.

    DDPM takes the variance that the model learned, else the posterior's.
    `trailing` spacing starts at pure noise and keeps DDIM's constant stride consistent down to x_0.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    common: dict[str, Any] = {
        "beta_start": LINEAR_BETA_START,
        "beta_end": LINEAR_BETA_END,
        "beta_schedule": "linear",
        "clip_sample": False,
        "timestep_spacing": "trailing",
    }
    variance = "learned_range" if learn_sigma else "fixed_small"
    scheduler: Any = DDIMScheduler(**common) if sampler == "ddim" else DDPMScheduler(variance_type=variance, **common)
    scheduler.set_timesteps(num_inference_steps)
    return scheduler


@torch.inference_mode()
def sample_latents(
    model: DiT,
    labels: Int[Tensor, " n"],
    sampling: Sampling,
    *,
    first_index: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, "n c h w"]:
    """Latents of images `first_index ...` with these labels; `progress` hears how many are done.

    Labels equal to the null label, or a guidance scale of 1, need one pass a step instead of two.
    """
    done: list[Tensor] = []
    for start in range(0, len(labels), _BATCH):
        batch = labels[start : start + _BATCH]
        done.append(_sample_batch(model, batch, sampling, first_index + start).cpu())
        if progress is not None:
            progress(min(start + _BATCH, len(labels)))
    return torch.cat(done)


def _sample_batch(model: DiT, labels: Tensor, sampling: Sampling, first_index: int) -> Tensor:
    device = model.pos_embed.device
    config = model.config
    shape = (config.in_channels, config.input_size, config.input_size)
    streams = [generator(sampling.seed, "sample", first_index + i) for i in range(len(labels))]
    x = torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)
    labels = labels.to(device)
    guided = sampling.guidance_scale != 1 and bool((labels != model.null_label).any())
    scheduler = make_scheduler(sampling.sampler, sampling.num_inference_steps, learn_sigma=config.learn_sigma)
    extra: dict[str, Any] = {"generator": streams} if sampling.sampler == "ddpm" else {}
    for t in scheduler.timesteps:
        output = _guided_output(model, x, t, labels, sampling.guidance_scale if guided else None)
        if sampling.sampler == "ddim" or not config.learn_sigma:
            output = output[:, : config.in_channels]
        x = scheduler.step(output, t, x, **extra).prev_sample
    return x


def _guided_output(model: DiT, x: Tensor, t: Tensor, labels: Tensor, scale: float | None) -> Tensor:
    """e_null + s (e_class - e_null) on the noise; the variance is the class branch's own."""
    times = t.to(x.device).float().expand(len(x))
    if scale is None:
        out: Tensor = model(x, times, labels)
        return out
    null = torch.full_like(labels, model.null_label)
    both: Tensor = model(torch.cat([x, x]), times.repeat(2), torch.cat([labels, null]))
    conditional, unconditional = both.chunk(2)
    channels = model.config.in_channels
    noise = unconditional[:, :channels] + scale * (conditional[:, :channels] - unconditional[:, :channels])
    return torch.cat([noise, conditional[:, channels:]], dim=1)
