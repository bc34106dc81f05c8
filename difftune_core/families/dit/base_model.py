"""A DiT as a base model: a folder with a card, the denoiser in `dit/` and its autoencoder in `vae/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from difftune_core.config.retention import RetentionSetConfig
from difftune_core.diffusion.process import Process, make_process
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.base_model import BaseModel
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.dit.files import load_plain_dit, read_dit_config
from difftune_core.interruption import Progress
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.retention.sample import Drawer
from difftune_core.runtime.blocks import compile_for_drawing

_INSIDE = ".base_layer."
"""The part of a name under which peft keeps the layer that LoRA is put around."""


@dataclass(frozen=True)
class DiTModel(BaseModel):
    """The folder: `card.json`, `dit/`, `vae/`."""

    beside: nn.Module | None = None
    """A model that is tuned from this one: what is frozen in it is this one's, so it is shared and not loaded again."""

    def dit_config(self) -> DiTConfig:
        """Read the anatomy."""
        return read_dit_config(self.folder / "dit")

    def load_dit(self, device: torch.device | str = "cpu") -> DiT:
        """Load the pre-trained denoiser in float32.

        Raises:
            TaskError: `adapter_not_mergeable` where it is a tuned model with an adapter inside; else as `load_dit`.
        """
        shared = {} if self.beside is None else _frozen(self.beside)
        return load_plain_dit(self.folder / "dit", repr(self.card.id), device, shared=shared)

    def anatomy(self) -> dict[str, Any]:
        """Read process, classes and size from the files."""
        config = self.dit_config()
        size = config.input_size * self.pixels_per_latent()
        return {"process": config.process, "num_classes": config.num_classes, "image_size": size}

    def process(self) -> Process:
        """Say how noise entered in the model's training."""
        return make_process(self.dit_config())

    def drawer(self, config: RetentionSetConfig, device: torch.device | str) -> Drawer:
        """Load denoiser and autoencoder as a function from labels to images."""
        model, autoencoder = self.load_dit(device).eval(), self.load_autoencoder(device)
        sampling = Sampling.of(config)
        if self.compiled:
            compile_for_drawing(model)

        def draw(labels: Int[Tensor, " k"], start: int, heard: Progress) -> UInt8[np.ndarray, "k s s 3"]:
            return autoencoder.decode(sample_latents(model, labels, sampling, first_index=start, progress=heard))

        return draw


def _frozen(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's untrained weights by the names that they have without an adapter; what is kept below float32
    is not the base model's as others draw from it.
    """
    parameters = model.named_parameters()
    return {name.replace(_INSIDE, "."): p.detach() for name, p in parameters if _is_whole(p)}


def _is_whole(parameter: nn.Parameter) -> bool:
    return not parameter.requires_grad and parameter.dtype == torch.float32
