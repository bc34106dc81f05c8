"""A DiT's training as the public trainers do it, with each of our levers to be switched on alone.

With `RELEASED` it is a step of the released `train.py`: the autoencoder in the loop, fp32 products as TF32, AdamW and
the average as loops over tensors, draws and tables from the host, the loss read in every step. With `FAST` it is one of
fast-DiT: features read from a file each, fp16 under autocast, activations computed anew, all else the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from torch import Tensor

from benchmarks.references.diffusion import NumpyDiffusion
from benchmarks.references.flags import as_public_trainers
from difftune_core.checkpoint.average import update_average
from difftune_core.data.latents import Latents
from difftune_core.diffusion.process import make_process
from difftune_core.networks.autoencoder_kl import AutoencoderKL
from difftune_core.networks.dit import DiT
from difftune_core.objectives.denoising import denoising_loss, noised
from difftune_core.runtime.blocks import checkpoint_activations, compile_blocks
from difftune_core.runtime.tensors import sent

_DECAY = 0.9999
Batches = Iterator[tuple[Tensor, Tensor]]
"""Batches of images with their labels."""


@dataclass(frozen=True)
class Levers:
    """What is switched on, in the order of the ladder."""

    tf32: bool = False
    """Products of float32 matrices as TF32; on GPUs alone."""
    cached: bool = False
    """Latents are made once and not in every step."""
    half: bool = False
    """Autocast to `half_dtype`."""
    compiled: bool = False
    """Blocks are compiled."""
    fused: bool = False
    """AdamW in one kernel, the average in one pass."""
    resident: bool = False
    """Latents are gathered on the device; no loader."""
    unsynchronised: bool = False
    """Whether nothing waits for the device: tables are on it, and no loss is read."""

    @classmethod
    def ladder(cls, *names: str) -> Iterator[tuple[str, Levers]]:
        """Switch levers on, one after the other, in their order; the first rung has none."""
        found = cls()
        yield "none", found
        for field in fields(cls):
            if field.name in names:
                found = replace(found, **{field.name: True})
                yield field.name, found


RELEASED = Levers(tf32=True)
FAST = Levers(tf32=True, cached=True, half=True)


@dataclass
class Source:
    """Where a step's images come from."""

    images: Batches | None = None
    """Images with values in [-1, 1]."""
    encode: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    """Gives mean and deviation of images' latents, scaled."""
    latents: Latents | None = None
    """Latents on the device, for `resident`."""
    features: Batches | None = None
    """Mean and deviation of latents [b, 2, c, h, w], for `cached`."""


class PlainLoop:
    """Model, average and optimizer, and the step."""

    def __init__(
        self,
        model: DiT,
        levers: Levers,
        source: Source,
        *,
        batch_size: int,
        half_dtype: torch.dtype = torch.bfloat16,
        checkpointing: bool = False,
    ) -> None:
        """Train a copy of `model`."""
        self.model, self._levers, self._source, self._size = deepcopy(model).train(), levers, source, batch_size
        self.average = deepcopy(model).eval().requires_grad_(False)  # noqa: FBT003  # no name in the library
        self._device = next(model.parameters()).device
        self._tables, self._process = NumpyDiffusion(), make_process(model.config).to(self._device)
        self._half_dtype, self._losses_read = half_dtype, 0.0
        trained = [p for p in self.model.parameters() if p.requires_grad]
        fused: dict[str, Any] = {"fused": True} if levers.fused else {}
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0, **fused)
        scales = levers.half and half_dtype == torch.float16
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=scales)
        if checkpointing:
            checkpoint_activations(self.model)
        if levers.compiled:
            compile_blocks([self.model], Path(gettempdir()), lambda: None)

    def step(self) -> None:
        """Take a step."""
        as_public_trainers(tf32=self._levers.tf32)
        x0, labels = self._input()
        t, noise = self._times(), torch.randn_like(x0)
        with torch.autocast(self._device.type, self._half_dtype, enabled=self._levers.half):
            loss = self.losses(x0, t, labels, noise).mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self._move_average()
        if not self._levers.unsynchronised:
            self._losses_read += loss.item()

    def losses(self, x0: Tensor, t: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """The loss of each image."""
        if not self._levers.unsynchronised:
            return self._tables.losses(self.model, x0, t, labels, noise)
        batch = noised(x0, noise, t, self._process)
        output = self.model(*self._process.network_inputs(batch.x_t, t), labels)
        return denoising_loss(output.float(), batch, self._process)

    def _input(self) -> tuple[Tensor, Tensor]:
        """Latents and labels of a batch."""
        if self._levers.resident:
            return self._gathered()
        source = self._source
        batches = source.features if self._levers.cached else source.images
        assert batches is not None, "given for the levers that need it"
        given, labels = (part.to(self._device) for part in next(batches))
        if self._levers.cached:
            mean, std = given.unbind(1)
        else:
            assert source.encode is not None, "given for the levers that need it"
            with torch.no_grad():
                mean, std = source.encode(given)
        return mean.float() + std.float() * torch.randn_like(mean, dtype=torch.float32), labels

    def _gathered(self) -> tuple[Tensor, Tensor]:
        latents = self._source.latents
        assert latents is not None, "given with `resident`"
        indices = torch.randint(len(latents), (self._size,))
        noise = torch.randn(self._size, *latents.shape, device=self._device)
        drawn = latents.draw(indices, torch.zeros(self._size, dtype=torch.bool), noise)
        return drawn, latents.labels[sent(indices, self._device)]

    def _times(self) -> Tensor:
        drawn = torch.randint(1000, (self._size,))
        if self._levers.unsynchronised:
            return sent(drawn, self._device)
        return torch.tensor(drawn.tolist(), device=self._device)

    @torch.no_grad()
    def _move_average(self) -> None:
        if self._levers.fused:
            update_average(self.average, self.model, _DECAY)
            return
        averages = dict(self.average.named_parameters())
        for name, parameter in self.model.named_parameters():
            averages[name].mul_(_DECAY).add_(parameter.data, alpha=1 - _DECAY)


def encoding(network: AutoencoderKL, scale: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return what gives mean and deviation of images' latents by an autoencoder that is not trained."""
    network = network.eval().requires_grad_(False)  # noqa: FBT003  # no name in the library

    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = network.encode(pixels)
        return mean * scale, std * scale

    return encode
