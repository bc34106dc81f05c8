"""Images to latents and back with an AutoencoderKL in diffusers' format.

Shapes: n images of s x s pixels, c latent channels, h w latent size.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from difftune_core.interruption import interruption_point
from difftune_core.networks.autoencoder_kl import AutoencoderConfig, AutoencoderKL, anatomy_of
from difftune_core.networks.state import CONFIG, check_state
from difftune_core.runtime.at_once import images_at_once
from difftune_core.runtime.foreign import needed, reading

_BATCH = 64  # as `data.pixels.BLOCK`, by which images are brought here
_CHANNELS = 64  # of diffusers, where a config does not say
_HELD = 4
"""Maps of the pixels' size and the first level's channels that are held at once."""
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_SCALING = 0.18215  # of diffusers, where a config does not say


class Autoencoder:
    """A frozen AutoencoderKL.

    Args:
        folder: a diffusers folder with `config.json` and safetensors.
        device: where it runs.

    Raises:
        TaskError: `unreadable_weights`.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        self._folder, self._device = folder, torch.device(device)
        with reading("vae/", "vae", "unreadable_weights"):
            config = json.loads((needed(folder, CONFIG) / CONFIG).read_bytes())
            self.scaling_factor = float(config.get("scaling_factor", _SCALING))
            self._anatomy = anatomy_of(config)
            levels = config.get("block_out_channels") or [_CHANNELS]
            self._pixels, self._channels = 4 ** (len(levels) - 1), int(levels[0])  # of a latent; of each pixel
        _ = self._vae

    @cached_property
    def _vae(self) -> Any:
        with reading("vae/", "vae", "unreadable_weights"):
            network = _theirs(self._folder) if self._anatomy is None else _ours(self._folder, self._anatomy)
            network = network.float().eval().requires_grad_(requires_grad=False)
        return network.to(self._device)

    def release(self) -> None:
        """Let go of the network; it is loaded again when it is next used."""
        vars(self).pop("_vae", None)

    def _at_once(self, pixels: int) -> int:
        """Images of so many pixels that are encoded or decoded together."""
        return images_at_once(pixels * self._channels * _HELD * 4, self._device, most=_BATCH)

    @torch.inference_mode()
    def encode(
        self, images: UInt8[np.ndarray, "n s s 3"]
    ) -> tuple[Float16[Tensor, "n c h w"], Float16[Tensor, "n c h w"]]:
        """Mean and standard deviation of each image's latent, scaled; on the CPU."""
        with torch.autocast(self._device.type, enabled=False):
            return self._encoded(images)

    def _encoded(self, images: UInt8[np.ndarray, "n s s 3"]) -> tuple[Tensor, Tensor]:
        means, stds = [], []
        batch = self._at_once(images.shape[1] * images.shape[2])
        for start in range(0, len(images), batch):
            interruption_point()
            pixels = torch.from_numpy(images[start : start + batch]).to(self._device).permute(0, 3, 1, 2)
            mean, std = self._vae.encode(pixels.float() / 127.5 - 1)
            means.append((mean * self.scaling_factor).half().cpu())
            stds.append((std * self.scaling_factor).half().cpu())
        return torch.cat(means), torch.cat(stds)

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n s s 3"]:
        """Images of scaled latents, rounded to 8 bits; computed in float32, whatever else is not."""
        with torch.autocast(self._device.type, enabled=False):
            return self._decoded(latents)

    def _decoded(self, latents: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n s s 3"]:
        images = []
        count = self._at_once(latents.shape[2] * latents.shape[3] * self._pixels)
        for start in range(0, len(latents), count):
            interruption_point()
            batch = latents[start : start + count].to(self._device)
            pixels = self._vae.decode(batch / self.scaling_factor)
            images.append(((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu())
        return torch.cat(images).contiguous().numpy()


def _ours(folder: Path, anatomy: AutoencoderConfig) -> AutoencoderKL:
    from safetensors.torch import load_file

    with torch.device("meta"):
        network = AutoencoderKL(anatomy)
    state = load_file(folder / _WEIGHTS)
    check_state(state, network)
    network.load_state_dict(state, assign=True)
    return network


class _Theirs(torch.nn.Module):
    """Diffusers' network, which takes seconds to import, as one of ours: for blocks that no published model has."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.network.encode(pixels).latent_dist
        return posterior.mean, posterior.std

    def decode(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.network.decode(latents).sample
        return pixels


def _theirs(folder: Path) -> _Theirs:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL as Diffusers

    loader: Any = Diffusers
    return _Theirs(loader.from_pretrained(folder, use_safetensors=True, local_files_only=True))
