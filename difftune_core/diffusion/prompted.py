"""The reverse process of a Stable Diffusion, with a ControlNet beside it or without.

Every image has its own random stream, a function of (seed, index), as in `difftune_core.diffusion.sampler`: the same
index starts from the same noise whatever the ControlNet, so images can be compared one by one.
Shapes: n images, b of a batch, l tokens of width d, c latent channels, h w their size, s pixels a side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from difftune_core.diffusion.sampler import Sampling, guide
from difftune_core.diffusion.solvers import discrete_scheduler, set_up
from difftune_core.interruption import Progress, of_batch
from difftune_core.runtime.rng import generator

_BATCH = 32


@dataclass(frozen=True)
class Control:
    """A ControlNet and what it is shown."""

    controlnet: nn.Module
    images: UInt8[Tensor, "n 3 s s"]
    scale: float = 1.0


@dataclass(frozen=True)
class Prompted:
    """What is drawn: text states, one row an image, and those of the empty prompt that guidance leads away from."""

    text: Float[Tensor, "n l d"]
    empty: Float[Tensor, "l d"]


def as_input(controls: UInt8[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
    """Control images as a ControlNet takes them, in [0, 1]."""
    return controls.float() / 255


def residuals(
    controlnet: nn.Module,
    x: Float[Tensor, "b c h w"],
    t: Tensor,
    *,
    text: Float[Tensor, "b l d"],
    controls: UInt8[Tensor, "b 3 s s"],
    scale: float = 1.0,
) -> dict[str, Any]:
    """What a ControlNet adds inside the UNet, as the UNet's arguments."""
    down, middle = controlnet(
        x,
        t,
        encoder_hidden_states=text,
        controlnet_cond=as_input(controls),
        conditioning_scale=scale,
        return_dict=False,
    )
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


@torch.inference_mode()
def sample_prompted(
    unet: Any,
    noise_fields: dict[str, Any],
    prompted: Prompted,
    sampling: Sampling,
    *,
    control: Control | None = None,
    first_index: int = 0,
    progress: Progress | None = None,
) -> Float[Tensor, "n c h w"]:
    """Scaled latents of images `first_index ...`; `progress` hears how many are done.

    Args:
        unet: the denoiser.
        noise_fields: betas and kind of prediction, as diffusers' schedulers name them.
        prompted: text states.
        sampling: how; `guidance` is `cfg` against the empty prompt, or `none`.
        control: a ControlNet, or None for the base model alone.
        first_index: number of the first image, which chooses its noise.
        progress: listener.

    Raises:
        Stopped: somebody asked for a stop; every step is an interruption point.
    """
    done: list[Tensor] = []
    for start in range(0, len(prompted.text), _BATCH):
        part = slice(start, start + _BATCH)
        shown = None if control is None else Control(control.controlnet, control.images[part], control.scale)
        batch = Prompted(prompted.text[part], prompted.empty)
        latents = _sample_batch(
            unet,
            noise_fields,
            batch,
            sampling,
            control=shown,
            first_index=first_index + start,
            stepped=of_batch(progress, start, len(batch.text)),
        )
        done.append(latents.cpu())
    return torch.cat(done)


def _sample_batch(
    unet: Any,
    noise_fields: dict[str, Any],
    prompted: Prompted,
    sampling: Sampling,
    *,
    control: Control | None,
    first_index: int,
    stepped: Callable[[int, int], None],
) -> Tensor:
    device, config, count = unet.device, unet.config, len(prompted.text)
    shape = (config.in_channels, config.sample_size, config.sample_size)
    streams = [generator(sampling.seed, "sample", first_index + i) for i in range(count)]
    x = torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)
    guided = sampling.is_guided and bool((prompted.text != prompted.empty).any())  # else both passes are the same
    text = prompted.text.to(device).float()
    if guided:
        text = torch.cat([prompted.empty.to(device).float().expand_as(text), text])
    controls = None if control is None else control.images.to(device)
    if controls is not None and guided:
        controls = torch.cat([controls, controls])
    scheduler = set_up(discrete_scheduler(sampling.sampler, noise_fields), sampling.num_inference_steps)
    extra: dict[str, Any] = {"generator": streams} if sampling.sampler == "ddpm" else {}
    for step, timestep in enumerate(scheduler.timesteps, start=1):
        inputs = torch.cat([x, x]) if guided else x
        t = timestep.expand(len(inputs)).to(device)
        added = {}
        if control is not None and controls is not None:
            added = residuals(control.controlnet, inputs, t, text=text, controls=controls, scale=control.scale)
        output: Tensor = unet(inputs, t, encoder_hidden_states=text, return_dict=False, **added)[0]
        if guided:
            output = _guided(output, sampling, float(timestep + 1) / scheduler.config.num_train_timesteps)
        x = scheduler.step(output, timestep, x, **extra).prev_sample
        stepped(step, len(scheduler.timesteps))
    return x


def _guided(output: Tensor, sampling: Sampling, level: float) -> Tensor:
    """The named half of `output` guided away from the empty one, where guidance is on at this noise level t/T."""
    empty, named = output.chunk(2)
    low, high = sampling.guidance_interval
    return guide(named, empty, sampling, named.shape[1]) if low <= level <= high else named
