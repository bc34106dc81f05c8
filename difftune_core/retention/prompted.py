"""A Stable Diffusion's images under one prompt, for retention sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.controlnet.draw import Prompted, sample_prompted
from difftune_core.interruption import Progress
from difftune_core.models.registry import BaseModel
from difftune_core.models.stable_diffusion import StableDiffusion
from difftune_core.models.text import TextEncoder


def prompted_drawer(
    base: BaseModel, prompt: str, sampling: Sampling, device: torch.device | str
) -> Callable[[Int[Tensor, " k"], int, Progress], UInt8[np.ndarray, "k s s 3"]]:
    """A function from labels, of which only the number counts, the first image's number and a listener to images."""
    assert isinstance(base, StableDiffusion), base.card.family
    unet, autoencoder = base.load_unet(device), base.load_autoencoder(device)
    states = TextEncoder(base.folder, device).encode([prompt, ""])
    fields = base.noise_fields()

    def draw(labels: Int[Tensor, " k"], start: int, heard: Progress) -> UInt8[np.ndarray, "k s s 3"]:
        prompted = Prompted(states[0].expand(len(labels), -1, -1), states[1])
        latents = sample_prompted(unet, fields, prompted, sampling, first_index=start, progress=heard)
        return autoencoder.decode(latents)

    return draw
