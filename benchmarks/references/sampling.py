"""A DiT's images as the released `sample_ddp.py` draws them: every step with both branches of guidance, all in fp32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.references.diffusion import NumpyDiffusion
from difftune_core.networks.dit import DiT

SCALE, CHANNELS = 1.5, 3
"""Scale of guidance, and how many channels of the prediction it is for."""


@dataclass(frozen=True)
class PlainSampler:
    """The ancestral chain over evenly spread timesteps."""

    model: DiT
    steps: int

    @torch.no_grad()
    def draw(self, labels: Tensor) -> Tensor:
        """Draw a latent for each label."""
        model, chain = self.model, NumpyDiffusion(self.steps)
        side, device = model.config.input_size, labels.device
        x = torch.randn(len(labels), model.config.in_channels, side, side, device=device)
        x, labels = torch.cat([x, x]), torch.cat([labels, torch.full_like(labels, model.null_label)])
        for step in reversed(range(self.steps)):
            t = torch.tensor([step] * len(x), device=device)
            x = chain.step_back(self.guided, x, t, labels)
        return x.chunk(2)[0]

    def guided(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Give both halves the first half's latents, and guide the first channels of both outputs."""
        half = x.chunk(2)[0]
        output = self.model(torch.cat([half, half]), t.float(), labels)
        of_class, null = output[:, :CHANNELS].chunk(2)
        guided = null + SCALE * (of_class - null)
        return torch.cat([torch.cat([guided, guided]), output[:, CHANNELS:]], dim=1)
