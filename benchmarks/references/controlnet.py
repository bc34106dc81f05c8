"""A ControlNet's training after what diffusers' script does: autoencoder and text encoder in every step.

`half` is its `--mixed_precision bf16 --allow_tf32`: the ControlNet under autocast, what is frozen in bfloat16. Without,
its defaults: float32 products. Both read the loss in every step and take AdamW's default kernels.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.references.flags import as_public_trainers

_MOST_NORM = 1.0


@dataclass(frozen=True)
class Parts:
    """Networks and noise of a Stable Diffusion."""

    unet: Any
    autoencoder: Any
    text: Any
    """A `CLIPTextModel`."""
    signal: Tensor
    """Root of the cumulated alphas, by timestep."""
    scale: float


@dataclass(frozen=True)
class Rows:
    """A batch as a loader gives it: images and controls as float32, tokens of prompts."""

    images: Tensor
    controls: Tensor
    tokens: Tensor


class PlainControlNet:
    """ControlNet and optimizer, and the step."""

    def __init__(self, controlnet: Any, parts: Parts, rows: Rows, *, half: bool) -> None:
        """Train a copy of `controlnet`."""
        self.model = deepcopy(controlnet).train()
        self._rows, self._half, self._read = rows, half, 0.0
        self._dtype = torch.bfloat16 if half else torch.float32
        networks = (parts.unet, parts.autoencoder, parts.text)
        unet, autoencoder, text = (deepcopy(part).to(self._dtype) for part in networks)
        self._parts = Parts(unet, autoencoder, text, parts.signal, parts.scale)
        self._device = next(self.model.parameters()).device
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-6, weight_decay=1e-2)

    def step(self) -> None:
        """Take a step."""
        as_public_trainers(tf32=self._half)
        rows, parts = self._rows, self._parts
        images, controls, tokens = (part.to(self._device) for part in (rows.images, rows.controls, rows.tokens))
        with torch.no_grad():
            mean, std = parts.autoencoder.encode(images.to(self._dtype))
            latents = (mean + std * torch.randn_like(mean)) * parts.scale
            text = parts.text(tokens, return_dict=False)[0]
        t = torch.randint(len(parts.signal), (len(latents),), device=self._device)
        loss = self.loss(latents.float(), t, torch.randn_like(latents).float(), text, controls)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _MOST_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._read += loss.detach().item()

    def loss(self, latents: Tensor, t: Tensor, noise: Tensor, text: Tensor, controls: Tensor) -> Tensor:
        """Give the mean squared error of the noise through the frozen UNet."""
        signal = self._parts.signal.to(self._device)[t].view(-1, 1, 1, 1)
        x_t = signal * latents + (1 - signal.square()).sqrt() * noise
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            down, middle = self.model(x_t, t, encoder_hidden_states=text, controlnet_cond=controls, return_dict=False)
            predicted = self._parts.unet(
                x_t.to(self._dtype),
                t,
                encoder_hidden_states=text.to(self._dtype),
                down_block_additional_residuals=[part.to(self._dtype) for part in down],
                mid_block_additional_residual=middle.to(self._dtype),
                return_dict=False,
            )[0]
        return functional.mse_loss(predicted.float(), noise.float())
