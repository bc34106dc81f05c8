"""A Gaussian mixture whose exact denoiser is known in closed form, as a model of any process and prediction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difftune_core.diffusion.edm import EDM
from difftune_core.diffusion.flow import Flow
from difftune_core.diffusion.process import DDPM, make_process
from difftune_core.networks.dit import DiT, DiTConfig

MEANS = torch.tensor([[-1.5, 0.5], [1.0, -0.5]])
WEIGHTS = torch.tensor([0.3, 0.7])
WIDTH = 0.2


def anatomy(**fields: object) -> DiTConfig:
    """Of a model of points in the plane."""
    given = {"input_size": 1, "patch_size": 1, "in_channels": 2, "hidden_size": 8, "depth": 0, "num_heads": 1}
    return DiTConfig(**{**given, "num_classes": 1, "learn_sigma": False, **fields})  # type: ignore[arg-type]  # a table


def expected_x0(point: Tensor, signal: Tensor, scale: Tensor) -> Tensor:
    """E[x_0 | signal x_0 + scale eps = point]. [b, 2] from [b, 2] and two of [b, 1], in float64."""
    variance = signal.square() * WIDTH**2 + scale.square()
    offsets = point[:, None] - signal[..., None] * MEANS.double()
    chance = (WEIGHTS.double().log() - offsets.square().sum(2) / (2 * variance)).softmax(1)
    each = MEANS.double() + (signal * WIDTH**2 / variance)[..., None] * offsets
    return (chance[..., None] * each).sum(1)


class ExactDenoiser(DiT):
    """The output that is expected given x_t, plus trainable errors that are zero.

    `variance` is what a model of learned variance says of it: -1 the posterior's, 1 beta.
    """

    def __init__(self, variance: float | None = None, **fields: object) -> None:
        super().__init__(anatomy(**{"learn_sigma": variance is not None, **fields}))
        self.variance = variance
        self.process = make_process(self.config)
        self.errors = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002  # the mixture has no classes
        point, time, signal, scale = self.seen(x.flatten(1).double(), t)
        x0 = expected_x0(point, signal, scale)
        noise = (point - signal * x0) / scale
        output = self.process.target(x0, noise, time)
        level = self.process.level(time)[:, None]
        features = torch.stack([torch.ones_like(point), point, point * level, point**3], dim=-1)
        found = (output + features @ self.errors).reshape(x.shape).float()
        return found if self.variance is None else torch.cat([found, torch.full_like(found, self.variance)], dim=1)

    def seen(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_t, the process's time, and the scales of signal and noise, from what the network was given."""
        if isinstance(self.process, Flow):
            time = t.double()[:, None]
            return x, t, 1 - time, time
        if isinstance(self.process, EDM):
            sigma = (4 * t.double()).exp()[:, None]
            unscaled = x * (sigma**2 + self.process.sigma_data**2).sqrt()
            return unscaled, sigma[:, 0], torch.ones_like(sigma), sigma
        assert isinstance(self.process, DDPM)
        kept = self.process.schedule.alphas_cumprod.double()[t.long()][:, None]
        return x, t.long(), kept.sqrt(), (1 - kept).sqrt()


def draw_mixture(count: int, stream: torch.Generator) -> Tensor:
    """Points of the mixture. [count, 2, 1, 1]."""
    component = torch.multinomial(WEIGHTS, count, replacement=True, generator=stream)
    return (MEANS[component] + WIDTH * torch.randn(count, 2, generator=stream))[..., None, None]
