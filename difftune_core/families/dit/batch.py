"""What a DiT trains on: latents with labels, and the base model where it is distilled. Shapes: b slots."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from difftune_core.config.transfer import TransferConfig
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.denoisers import Denoiser
from difftune_core.diffusion.process import Process
from difftune_core.families.batch import Slots
from difftune_core.networks.dit import DiT


@dataclass(frozen=True)
class LabelledData:
    """What a run trains on, resident on its device."""

    target: LatentSet
    retention: LatentSet | None
    """None where the method needs none."""
    null_label: int
    process: Process
    teacher: DiT | None = None
    """The frozen base model, where it is distilled."""

    @property
    def target_latents(self) -> LatentSet:
        """The target's images."""
        return self.target

    @property
    def retention_latents(self) -> LatentSet | None:
        """The retention set's images."""
        return self.retention

    @property
    def has_teacher(self) -> bool:
        """Whether the base model is distilled."""
        return self.teacher is not None

    def teach(self, x: Float[Tensor, "k c h w"], t: Float[Tensor, " k"]) -> Float[Tensor, "k c h w"]:
        """What the base model predicts under its null label: it has no row for the target's classes."""
        assert self.teacher is not None, "the method needs one"
        null = torch.full((len(x),), self.teacher.null_label, device=x.device)
        with torch.no_grad():
            output: Tensor = self.teacher(x, t, null)
        return output[:, : self.teacher.config.in_channels]

    def conditions(self, slots: Slots) -> Int[Tensor, " b"]:
        """Label of a target that was not dropped; else the null label, on whose branch retention acts."""
        device = self.target.labels.device
        labels = self.target.labels[slots.target.to(device)]
        return labels.masked_fill((slots.dropped | ~slots.is_target).to(device), self.null_label)

    def dropout(self, config: TransferConfig) -> float:
        """How often a label is dropped."""
        return config.method.hyperparameters.label_dropout

    def denoiser(self, model: nn.Module) -> Denoiser:
        """A DiT denoises as it is."""
        return model
