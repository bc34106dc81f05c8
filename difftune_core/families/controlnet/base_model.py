"""A Stable Diffusion base model: a diffusers folder with a card, and the ControlNets that stand beside it.

Diffusers' own modules throughout. The base model is frozen; a ControlNet (Zhang et al. 2023) is what is trained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn

from difftune_core.adapters.select import TRAINED_BESIDE
from difftune_core.config.controlnet_fit import check_controlnet_fits
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.diffusion.process import DDPM
from difftune_core.diffusion.reverse import Sampling
from difftune_core.diffusion.solvers import discrete_scheduler
from difftune_core.families.base_model import BaseModel
from difftune_core.families.controlnet.draw import PREDICTIONS, Prompted, process_of, sample_prompted
from difftune_core.interruption import Progress
from difftune_core.networks.state import WEIGHTS
from difftune_core.networks.text import TextEncoder
from difftune_core.retention.sample import Drawer
from difftune_core.runtime.blocks import compile_for_drawing
from difftune_core.runtime.foreign import needed, reading
from difftune_core.runtime.imports import uncollected
from difftune_core.runtime.precision import COMPUTES_IN
from difftune_core.runtime.rng import generator
from difftune_core.runtime.tensors import channels_last

_OWN_PARTS = ("controlnet_cond_embedding", "controlnet_down_blocks", "controlnet_mid_block")
_BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")


@dataclass(frozen=True)
class StableDiffusion(BaseModel):
    """The folder: `card.json`, `unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`."""

    in_memory: nn.Module | None = None
    """UNet of the model, where a run has loaded it already: images are drawn from it."""

    def anatomy(self) -> dict[str, Any]:
        """Read the size of the model's images from the files."""
        with reading("unet/config.json", "unet", "unreadable_weights"):
            config = json.loads((self.folder / "unet" / "config.json").read_bytes())
            return {"image_size": int(config["sample_size"]) * self.pixels_per_latent()}

    def noise_fields(self) -> dict[str, Any]:
        """Betas and kind of prediction, as the config of the model's scheduler states them.

        Raises:
            TaskError: `unreadable_weights`.
        """
        path = self.folder / "scheduler" / "scheduler_config.json"
        with reading("scheduler/scheduler_config.json", "scheduler", "unreadable_weights"):
            stated = json.loads(path.read_bytes())
            fields = {name: stated[name] for name in _BETAS if stated.get(name) is not None}
            PREDICTIONS[discrete_scheduler("ddim", fields).config.prediction_type]
        return fields

    def process(self) -> DDPM:
        """Return how noise entered in the model's training."""
        return process_of(self.noise_fields())

    def drawer(self, config: RetentionSetConfig, device: torch.device | str) -> Drawer:
        """Load the model as a function to images of one prompt; of the labels only the number counts."""
        unet, autoencoder = self.in_memory or self.load_unet(device), self.load_autoencoder(device)
        states = TextEncoder(self.folder, device).encode([config.prompt or "", ""])
        fields, sampling = self.noise_fields(), Sampling.of(config)
        if self.compiled:
            compile_for_drawing(unet)

        def draw(labels: Int[Tensor, " k"], start: int, heard: Progress) -> UInt8[np.ndarray, "k s s 3"]:
            prompted = Prompted(states[0].expand(len(labels), -1, -1), states[1])
            latents = sample_prompted(unet, fields, prompted, sampling, first_index=start, progress=heard)
            return autoencoder.decode(latents)

        return draw

    def load_unet(self, device: torch.device | str = "cpu") -> nn.Module:
        """The frozen denoiser in float32.

        Raises:
            TaskError: `unreadable_weights`.
        """
        with uncollected():
            from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        with reading("unet/", "unet", "unreadable_weights"):
            inner = needed(self.folder / "unet", "config.json")
            unet: Any = UNet2DConditionModel.from_pretrained(inner, use_safetensors=True, local_files_only=True)
        frozen: nn.Module = unet.float().eval().requires_grad_(requires_grad=False).to(device)
        return frozen


def new_controlnet(unet: Any, init_from: Path | None, device: torch.device | str = "cpu", *, seed: int) -> nn.Module:
    """Return what is trained: the UNet's encoder copied, with zero convolutions; or an existing ControlNet.

    Args:
        unet: of the base model.
        init_from: a diffusers folder of the ControlNet to go on from; None for a new one.
        device: where it will be.
        seed: of the first values of what embeds the control in a new one.

    Raises:
        TaskError: `model_mismatch`, it does not fit the UNet; `unreadable_weights`.
    """
    with uncollected():
        from diffusers.models.controlnets.controlnet import ControlNetModel

    if init_from is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(seed, "controlnet").initial_seed())
            fresh: Any = ControlNetModel.from_unet(unet, conditioning_channels=3)
        return _marked(channels_last(fresh.float().to(device)))
    loaded = load_controlnet(init_from, device)
    config: Any = loaded.config
    check_controlnet_fits(dict(config), dict(unet.config))
    return loaded


def load_controlnet(folder: Path, device: torch.device | str = "cpu") -> nn.Module:
    """A ControlNet from a diffusers folder, in float32.

    Raises:
        TaskError: `unreadable_weights`.
    """
    from diffusers.models.controlnets.controlnet import ControlNetModel

    with reading(folder.name, "control.init_from", "unreadable_weights"):
        needed(folder, "config.json")
        loaded: Any = ControlNetModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    return _marked(channels_last(loaded.float().to(device)))


def open_controlnet(checkpoint: Path, device: torch.device | str = "cpu") -> nn.Module:
    """A ControlNet from a checkpoint of ours, whose weights are not called as in a diffusers folder; in float32.

    Raises:
        TaskError: `unreadable_weights`.
    """
    from diffusers.models.controlnets.controlnet import ControlNetModel

    with reading(checkpoint.name, "model", "unreadable_weights"):
        loader: Any = ControlNetModel
        opened = loader.from_config(loader.load_config(checkpoint, local_files_only=True))
        opened.load_state_dict(load_file(checkpoint / WEIGHTS))
    return _marked(channels_last(opened.float().to(device)))


def _marked(controlnet: nn.Module) -> nn.Module:
    """Say what is trained beside every adapter: the base model has no counterpart of it; and that it is float32."""
    setattr(controlnet, TRAINED_BESIDE, _OWN_PARTS)
    setattr(controlnet, COMPUTES_IN, None)
    return controlnet
