"""Images to latents and back with diffusers' AutoencoderKL. Imported only where images are read or written.

Shapes: n images of s x s pixels, c latent channels, h w latent size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from difftune_core.interruption import interruption_point
from difftune_core.runtime.foreign import needed, reading

_BATCH = 64


class Autoencoder:
    """A frozen AutoencoderKL.

    Args:
        folder: a diffusers folder with `config.json` and safetensors.
        device: where it runs.

    Raises:
        TaskError: `unreadable_weights`.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        with reading("vae/", "vae", "unreadable_weights"):
            needed(folder, "config.json")
            loaded: Any = AutoencoderKL.from_pretrained(folder, use_safetensors=True, local_files_only=True)
            self.scaling_factor = float(loaded.config.scaling_factor)
        self._vae = loaded.float().eval().requires_grad_(requires_grad=False).to(device)
        self._device = torch.device(device)

    @torch.inference_mode()
    def encode(
        self, images: UInt8[np.ndarray, "n s s 3"]
    ) -> tuple[Float16[Tensor, "n c h w"], Float16[Tensor, "n c h w"]]:
        """Mean and standard deviation of each image's latent, scaled; on the CPU."""
        means, stds = [], []
        for start in range(0, len(images), _BATCH):
            interruption_point()
            pixels = torch.from_numpy(images[start : start + _BATCH]).to(self._device).permute(0, 3, 1, 2)
            posterior = self._vae.encode(pixels.float() / 127.5 - 1).latent_dist
            means.append((posterior.mean * self.scaling_factor).half().cpu())
            stds.append((posterior.std * self.scaling_factor).half().cpu())
        return torch.cat(means), torch.cat(stds)

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n s s 3"]:
        """Images of scaled latents, rounded to 8 bits."""
        images = []
        for start in range(0, len(latents), _BATCH):
            interruption_point()
            batch = latents[start : start + _BATCH].to(self._device)
            pixels = self._vae.decode(batch / self.scaling_factor).sample
            images.append(((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu())
        return torch.cat(images).contiguous().numpy()
