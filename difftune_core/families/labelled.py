"""What a network of classes trains on: latents with labels, and the base model where it is distilled.

Such a network is called with latents, times and labels, and has a `null_label`. Shapes: b slots, k of them taught.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from difftune_core.config.transfer import TransferConfig
from difftune_core.data.latents import Latents
from difftune_core.diffusion.denoisers import Denoiser
from difftune_core.diffusion.process import Process
from difftune_core.families.batch import Slots, Teach
from difftune_core.runtime.tensors import sent


@dataclass(frozen=True)
class LabelledData:
    """What a run of a network of classes trains on."""

    target: Latents
    retention: Latents | None
    """The retention set's images; None where the method needs none."""
    null_label: int
    process: Process
    teacher: nn.Module | None = None
    """The frozen base model, where it is distilled."""

    @property
    def target_latents(self) -> Latents:
        """The target's images."""
        return self.target

    @property
    def retention_latents(self) -> Latents | None:
        """The retention set's images."""
        return self.retention

    @property
    def teach(self) -> Teach | None:
        """The base model under its null label, where it is distilled: it has no row for the target's classes."""
        return None if self.teacher is None else self._taught

    def _taught(self, x: Float[Tensor, "k c h w"], t: Float[Tensor, " k"]) -> Float[Tensor, "k c h w"]:
        """Return what the base model predicts under its null label: it has no row for the target's classes."""
        teacher: Any = self.teacher
        with torch.no_grad():
            output: Tensor = teacher(x, t, torch.full((len(x),), teacher.null_label, device=x.device))
        return output[:, : self.target.shape[0]]

    def conditions(self, slots: Slots) -> Int[Tensor, " b"]:
        """Label of a target that was not dropped; else the null label, on whose branch retention acts."""
        device = self.target.labels.device
        labels = self.target.labels[sent(slots.target, device)]
        return labels.masked_fill(sent(slots.dropped | ~slots.is_target, device), self.null_label)

    def dropout(self, config: TransferConfig) -> float:
        """Return how often a label is dropped."""
        return config.method.hyperparameters.label_dropout

    def denoiser(self, model: nn.Module) -> Denoiser:
        """A network of classes denoises as it is."""
        return model
