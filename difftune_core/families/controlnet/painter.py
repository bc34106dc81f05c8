"""Images of a Stable Diffusion in memory, with a ControlNet beside it or without."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.base_model import BaseModel
from difftune_core.families.controlnet.base_model import StableDiffusion, open_controlnet
from difftune_core.families.controlnet.draw import Control, Prompted, sample_prompted
from difftune_core.families.painter import Painter, Wanted
from difftune_core.interruption import Progress
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.text import TextEncoder


class PromptPainter(Painter):
    """A Stable Diffusion; a checkpoint is a ControlNet, which the control image is shown."""

    def __init__(self, base: BaseModel, checkpoint: Path | None, device: torch.device) -> None:
        """Load the networks."""
        assert isinstance(base, StableDiffusion), base.card.family
        self._base, self._device = base, device
        self._unet = base.load_unet(device)
        self._controlnet = None
        if checkpoint is not None:
            self._controlnet = open_controlnet(checkpoint, device).eval().requires_grad_(requires_grad=False)

    @cached_property
    def _text(self) -> TextEncoder:
        return TextEncoder(self._base.folder, self._device)

    @cached_property
    def _autoencoder(self) -> Autoencoder:
        return self._base.load_autoencoder(self._device)

    def draw(
        self, wanted: Wanted, sampling: Sampling, *, first: int, count: int, of_base: bool, progress: Progress
    ) -> UInt8[np.ndarray, "count s s 3"]:
        """Draw one prompt."""
        states = self._text.encode([wanted.prompt, ""])
        prompted, control = Prompted(states[0].expand(count, -1, -1), states[1]), None
        if self._controlnet is not None and wanted.control is not None and not of_base:
            shown = torch.from_numpy(wanted.control).permute(2, 0, 1).expand(count, -1, -1, -1).to(self._device)
            control = Control(self._controlnet, shown, wanted.conditioning_scale)
        fields = self._base.noise_fields()
        latents = sample_prompted(
            self._unet, fields, prompted, sampling, control=control, first_index=first, progress=progress
        )
        return self._autoencoder.decode(latents)
