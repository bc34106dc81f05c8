"""Latents of a Stable Diffusion's prompts, with a ControlNet beside it or without: its side of the reverse loop.

Shapes: n images, b of a batch, l tokens of width d, c latent channels, h w their size, s pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from difftune_core.config.sampling import Prediction
from difftune_core.diffusion.denoisers import Condition, Denoiser
from difftune_core.diffusion.process import DDPM
from difftune_core.diffusion.reverse import Away, Chain, Sampling, reverse
from difftune_core.diffusion.schedule import NoiseSchedule
from difftune_core.diffusion.solvers import discrete_scheduler, discrete_solver
from difftune_core.interruption import Progress
from difftune_core.runtime.at_once import images_at_once
from difftune_core.runtime.precision import computing_in

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}
"""Kinds of prediction by diffusers' names."""
_BATCH = 32
_HELD = 60
"""Maps of the first level's size and channels that are held at once."""


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
    """Return what a ControlNet adds inside the UNet, as the UNet's arguments."""
    with computing_in(controlnet):
        down, middle = controlnet(
            x,
            t,
            encoder_hidden_states=text,
            controlnet_cond=as_input(controls),
            conditioning_scale=scale,
            return_dict=False,
        )
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def denoiser_of(unet: Any, controlnet: nn.Module | None = None, scale: float = 1.0) -> Denoiser:
    """Make a denoiser of a UNet; with a ControlNet beside it the condition is text states and control images."""

    def denoise(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert not isinstance(condition, Tensor), "text states, and control images where a ControlNet follows them"
        text, added = condition[0].float(), {}
        if controlnet is not None:
            added = residuals(controlnet, x, t, text=text, controls=condition[1], scale=scale)
        with computing_in(unet):
            output: Tensor = unet(x, t, encoder_hidden_states=text, return_dict=False, **added)[0]
        return output.float()

    return denoise


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
    """Draw scaled latents of images `first_index ...`; `progress` hears how many are done.

    Args:
        unet: the network.
        noise_fields: betas and kind of prediction, as diffusers' schedulers name them.
        prompted: text states.
        sampling: how; `guidance` is `cfg` against the empty prompt, or `none`.
        control: a ControlNet, or None for the base model alone.
        first_index: number of the first image, which chooses its noise.
        progress: listener.

    Raises:
        Stopped: a stop was requested; every step is an interruption point.
    """
    config = unet.config
    chain = Chain(
        process=process_of(noise_fields),
        make_solver=partial(discrete_solver, fields=noise_fields),
        shape=(config.in_channels, config.sample_size, config.sample_size),
        device=unet.device,
        batch=images_at_once((1 + sampling.is_guided) * activation_bytes(unet), unet.device, most=_BATCH),
    )
    text, empty = prompted.text, prompted.empty.expand(prompted.text.shape)
    shown = () if control is None else (control.images,)
    denoise = denoiser_of(unet) if control is None else denoiser_of(unet, control.controlnet, control.scale)
    named = torch.tensor([not torch.equal(row, prompted.empty) for row in text])  # else both passes are the same
    away = Away((empty, *shown), named) if sampling.is_guided else None
    return reverse(denoise, (text, *shown), chain, sampling, away=away, first_index=first_index, progress=progress)


def activation_bytes(unet: Any) -> int:
    """Bytes that a pass of one image holds: mostly the encoder's outputs for the decoder, and feed-forward layers."""
    config = unet.config
    return int(config.sample_size**2 * config.block_out_channels[0] * _HELD * 4)


def process_of(noise_fields: dict[str, Any]) -> DDPM:
    """Make the process that these fields describe."""
    scheduler = discrete_scheduler("ddim", noise_fields)
    return DDPM(NoiseSchedule(scheduler.betas.double()), PREDICTIONS[scheduler.config.prediction_type])
