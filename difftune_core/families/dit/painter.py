"""Images of a DiT in memory."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.base_model import BaseModel
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.dit.files import load_dit, read_dit_config
from difftune_core.families.painter import Painter, Wanted
from difftune_core.interruption import Progress
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import DiT


class DiTPainter(Painter):
    """A DiT, and where it was tuned, the base model once it is asked for: for Domain Guidance or beside it."""

    def __init__(self, base: BaseModel, checkpoint: Path | None, device: torch.device) -> None:
        """Load the model that draws."""
        assert isinstance(base, DiTModel), base.card.family
        self._base, self._device = base, device
        self._tuned = None
        if checkpoint is not None:
            self._tuned = load_dit(checkpoint, read_dit_config(checkpoint), device).eval()

    @cached_property
    def _base_model(self) -> DiT:
        return self._base.load_dit(self._device).eval()

    @cached_property
    def _autoencoder(self) -> Autoencoder:
        return self._base.load_autoencoder(self._device)

    def draw(
        self, wanted: Wanted, sampling: Sampling, *, first: int, count: int, of_base: bool, progress: Progress
    ) -> UInt8[np.ndarray, "count s s 3"]:
        """Draw one class. The guide of the base model itself is its own null branch, whatever is stated."""
        model, label, source = self._tuned, wanted.label, None
        if model is None or of_base:
            label = None if self._tuned is not None else label
            model = self._base_model
            guidance = "cfg" if sampling.guidance == "domain" else sampling.guidance
            sampling = replace(sampling, guidance=guidance, handover=0.0, noise_guidance_scale=1.0)
        elif sampling.guidance == "domain" or sampling.handover:
            source = self._base_model
        labels = torch.full((count,), model.null_label if label is None else label)
        latents = sample_latents(model, labels, sampling, source=source, first_index=first, progress=progress)
        return self._autoencoder.decode(latents)
