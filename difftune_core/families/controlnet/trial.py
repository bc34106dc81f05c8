"""An imported model is run once, on a few latents: a config can have values that only its first use refuses.

Shapes: b = 1 batch, c latent channels, 8 x 8 latents of 64 x 64 pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difftune_core.diffusion.solvers import discrete_scheduler
from difftune_core.families.controlnet.base_model import StableDiffusion, load_controlnet
from difftune_core.hooks import TaskError
from difftune_core.networks.text import TextEncoder
from difftune_core.runtime.foreign import reading

_LATENTS, _PIXELS = 8, 64
_TIMESTEP = 500


def try_stable_diffusion(base: StableDiffusion) -> None:
    """A prompt, a step of the UNet and of its scheduler, an image to latents and back.

    Raises:
        TaskError: `model_mismatch` or `unreadable_weights`, naming the part.
    """
    with torch.inference_mode():
        text = TextEncoder(base.folder).encode(["a picture"]).float()
        _check_finite(text, "text_encoder")
        unet: Any = base.load_unet()
        latents = _noise(int(unet.config.in_channels), _LATENTS)
        with reading("unet/config.json", "unet"):
            predicted = unet(latents, _timestep(), encoder_hidden_states=text, return_dict=False)[0]
        _check_finite(predicted, "unet")
        with reading("scheduler/scheduler_config.json", "scheduler"):
            scheduler = discrete_scheduler("ddim", base.noise_fields())
            scheduler.set_timesteps(2)
            less_noisy = scheduler.step(predicted, scheduler.timesteps[0], latents).prev_sample
        _check_finite(less_noisy, "scheduler")
        autoencoder = base.load_autoencoder()
        with reading("vae/config.json", "vae"):
            means, stds = autoencoder.encode(np.zeros((1, _PIXELS, _PIXELS, 3), np.uint8))
            autoencoder.decode(means.float())
        _check_finite(torch.cat([means, stds]), "vae")


def try_controlnet(folder: Path) -> None:
    """Make one pass.

    Raises:
        TaskError: `model_mismatch` or `unreadable_weights`.
    """
    controlnet: Any = load_controlnet(folder).eval()
    config = controlnet.config
    with torch.inference_mode(), reading("ControlNet config", "config.json"):
        down, middle = controlnet(
            _noise(int(config.in_channels), _LATENTS),
            _timestep(),
            encoder_hidden_states=torch.zeros(1, 1, int(config.cross_attention_dim)),
            controlnet_cond=torch.zeros(1, 3, _PIXELS, _PIXELS),
            return_dict=False,
        )
    for residual in [*down, middle]:
        _check_finite(residual, "ControlNet")


def _noise(channels: int, side: int) -> Tensor:
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))


def _timestep() -> Tensor:
    return torch.tensor([_TIMESTEP])


def _check_finite(values: Tensor, part: str) -> None:
    if not values.isfinite().all():
        raise TaskError("model_mismatch", f"{part}: what it gives is NaN or infinite", part)
