"""What a ControlNet trains on, and the frozen denoiser that it trains through.

Target slots are an image with its caption and its control; retention slots an image of the base model with the default
prompt and the control drawn from it (Diff-Tuning, App. B.2). Shapes: b slots, l tokens of width d, s pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from difftune_core.config.transfer import TransferConfig
from difftune_core.data.controlled import ControlledSet
from difftune_core.data.latents import Latents
from difftune_core.diffusion.denoisers import Denoiser
from difftune_core.diffusion.process import Process
from difftune_core.families.batch import Slots
from difftune_core.families.controlnet.draw import denoiser_of
from difftune_core.runtime.tensors import sent


@dataclass(frozen=True)
class ControlledData:
    """What a run trains on, and the frozen denoiser that it trains through."""

    target: ControlledSet
    retention: ControlledSet | None
    """The retention set; None where the method needs none."""
    empty_prompt: int
    """Row of the empty prompt among the text states."""
    process: Process
    unet: Any
    teach: None = None
    """Nobody teaches: the frozen base model is inside what is trained."""

    @property
    def target_latents(self) -> Latents:
        """The target's images."""
        return self.target.latents

    @property
    def retention_latents(self) -> Latents | None:
        """The retention set's images."""
        return None if self.retention is None else self.retention.latents

    def conditions(self, slots: Slots) -> tuple[Tensor, Tensor]:
        """Text states [b, l, d] and control images [b, 3, s, s]; a target's prompt is empty where it was dropped."""
        device = self.target.latents.device
        controls = self.target.controls_of(slots.target)
        prompt = self.target.prompt[slots.target].masked_fill(slots.dropped, self.empty_prompt)
        if self.retention is not None and slots.kept is not None:
            chosen = sent(slots.is_target, device)[:, None, None, None]
            controls = torch.where(chosen, controls, self.retention.controls_of(slots.kept))
            prompt = torch.where(slots.is_target, prompt, self.retention.prompt[slots.kept])
        return self.target.text_of(prompt), controls

    def read_ahead(self, target: Int[Tensor, " b"], kept: Int[Tensor, " b"] | None) -> None:
        """Begin to read the next step's controls and text states."""
        self.target.prefetch(target)
        if self.retention is not None and kept is not None:
            self.retention.prefetch(kept)

    def dropout(self, config: TransferConfig) -> float:
        """Return how often a prompt is dropped, so that the control is heeded by itself."""
        assert config.control is not None, "resolved at submit"
        return config.control.prompt_dropout

    def denoiser(self, model: nn.Module) -> Denoiser:
        """The UNet with the ControlNet beside it; before its decoder nothing depends on what is trained."""
        return denoiser_of(self.unet, model)
