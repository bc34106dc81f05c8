"""The reverse process: images from noise, by diffusers' schedulers and classifier-free guidance.

Every image has its own random stream, a function of (seed, index), so that it does not depend on its batch.
Shapes: b images, c latent channels, h w their size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from difftune_core.config.sampling import Guidance, Sampler
from difftune_core.diffusion.process import make_process
from difftune_core.diffusion.solvers import make_solver
from difftune_core.hooks import TaskError
from difftune_core.interruption import Progress, of_batch
from difftune_core.models.dit import DiT
from difftune_core.runtime.rng import generator

_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are drawn; part of every figure's recipe."""

    sampler: Sampler = "ddim"
    num_inference_steps: int = 50
    guidance_scale: float = 1.5
    guidance: Guidance = "cfg"
    """Whose null branch is guided away from: the model's own, the source model's (Domain Guidance, ICLR 2025), or
    none's, whatever the scale."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels as shares of the chain, t/T, between which guidance is on (Kynkaanniemi et al. 2024)."""
    guided_channels: int | None = None
    """Guide the first channels only; DiT's published sampler guides 3 of 4. None: all."""
    seed: int = 0

    @classmethod
    def of(cls, config: object) -> Sampling:
        """As a config that samples states it; what it leaves open is at its default."""
        names = [field.name for field in fields(cls) if hasattr(config, field.name)]
        return cls(**{name: getattr(config, name) for name in names})

    @property
    def is_guided(self) -> bool:
        """Whether guidance changes anything for labels that are classes."""
        return self.guidance != "none" and self.guidance_scale != 1


@torch.inference_mode()
def sample_latents(
    model: DiT,
    labels: Int[Tensor, " n"],
    sampling: Sampling,
    *,
    source: DiT | None = None,
    first_index: int = 0,
    progress: Progress | None = None,
) -> Float[Tensor, "n c h w"]:
    """Latents of images `first_index ...` with these labels; `progress` hears how many are done.

    Labels equal to the null label, or a guidance scale of 1, need one pass a step instead of two.
    `source` is the pre-trained model, needed for guidance `domain`. Every step is an interruption point.

    Raises:
        Stopped: somebody asked for a stop.
        TaskError: `label_outside_table`, a label that the table has no row for.
    """
    null_model = source if sampling.guidance == "domain" else model
    assert null_model is not None, "domain guidance needs the source model"
    outside = labels[(labels < 0) | (labels > model.null_label)]
    if len(outside):
        message = f"label {int(outside[0])} is outside the table: 0 to {model.null_label}, the last of them null"
        raise TaskError("label_outside_table", message, "labels")
    done: list[Tensor] = []
    for start in range(0, len(labels), _BATCH):
        batch = labels[start : start + _BATCH]
        stepped = of_batch(progress, start, len(batch))
        done.append(_sample_batch(model, null_model, batch, sampling, first_index + start, stepped=stepped).cpu())
    return torch.cat(done)


def _sample_batch(
    model: DiT,
    null_model: DiT,
    labels: Tensor,
    sampling: Sampling,
    first_index: int,
    *,
    stepped: Callable[[int, int], None],
) -> Tensor:
    device, config = model.pos_embed.device, model.config
    shape = (config.in_channels, config.input_size, config.input_size)
    streams = [generator(sampling.seed, "sample", first_index + i) for i in range(len(labels))]
    x = torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)
    labels = labels.to(device)
    guided = sampling.is_guided and bool((labels != model.null_label).any())
    process = make_process(config)
    solver = make_solver(sampling.sampler, sampling.num_inference_steps, config)
    x = x * solver.initial_scale
    extra: dict[str, Any] = {"generator": streams} if sampling.sampler == "ddpm" else {}
    channels = config.out_channels if sampling.sampler == "ddpm" else config.in_channels  # ddpm needs the variance
    low, high = sampling.guidance_interval
    for step, (timestep, t) in enumerate(zip(solver.scheduler.timesteps, solver.times, strict=True), start=1):
        inputs = process.network_inputs(x, t.expand(len(x)).to(device))
        output: Tensor = model(*inputs, labels)
        if guided and low <= process.level(t[None]) <= high:
            output = _guided(output, null_model, inputs, sampling)
        reached = solver.scheduler.step(output[:, :channels], timestep, x, **extra)
        x = reached.prev_sample
        stepped(step, len(solver.times))
    return reached.pred_original_sample if sampling.sampler == "ddpm" else x  # a chain of one step would add noise


def _guided(output: Tensor, null_model: DiT, inputs: tuple[Tensor, Tensor], sampling: Sampling) -> Tensor:
    null = torch.full((len(output),), null_model.null_label, device=output.device)
    return guide(output, null_model(*inputs, null), sampling, null_model.config.in_channels)


def guide(output: Tensor, unconditional: Tensor, sampling: Sampling, in_channels: int) -> Tensor:
    """e_null + s (e_class - e_null) on the prediction, or on its first channels; the rest is the class branch's own.

    Every kind of prediction is linear in the noise, so guiding it guides the noise. A learned variance, behind the
    `in_channels` of the prediction, is not guided.
    """
    channels = min(sampling.guided_channels or in_channels, in_channels)
    base = unconditional[:, :channels]
    noise = base + sampling.guidance_scale * (output[:, :channels] - base)
    return torch.cat([noise, output[:, channels:]], dim=1)
