"""Flow matching on the linear interpolant (Lipman et al. 2023; SiT, Ma et al. 2024).

x_t = (1 - t) x_0 + t eps, so t runs from the data at 0 to pure noise at 1, as diffusers' flow schedulers count; the
output is the velocity eps - x_0, and the network is told t itself, in [0, 1].

SiT's published checkpoints count the other way: with u = 1 - t their data lie at u = 1, they are told u, unscaled, and
put out x_0 - eps, which is minus our output.

Shapes: b images, `...` their latent shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from difftune_core.diffusion.continuous import Continuous, quantiles, shaped
from difftune_core.diffusion.prediction import implied_x0
from difftune_core.diffusion.schedule import NUM_TIMESTEPS, linear_betas

_FIRST = 2.0**-24  # the smallest time that is drawn: at 0 the signal-to-noise ratio is infinite


@dataclass(frozen=True)
class Flow(Continuous):
    """The linear interpolant; t is uniform in (0, 1)."""

    def draw_times(
        self, count: int, stream: torch.Generator, share: tuple[float, float] = (0.0, 1.0)
    ) -> Real[Tensor, " {count}"]:
        """Uniform."""
        return quantiles(count, stream, share).clamp(min=_FIRST).float()

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """The interpolant."""
        signal, scale = _scales(t, x0)
        return signal * x0 + scale * noise

    def network_inputs(
        self, x_t: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
        """x_t and t."""
        return x_t, t.float()

    def target(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """The velocity, dx_t/dt."""
        del t  # the line is straight
        return noise - x0

    def implied_x0(
        self, output: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """The end of the straight line."""
        return implied_x0("velocity", output, x_t, *_scales(t, x_t))

    def level(self, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """The level of the DDPM timestep with the same SNR, so that the base model's knowledge is kept where it lies.

        Between timesteps linear in log SNR; beyond DDPM's ends (t below 0.01, above 0.994) the level of the end.
        """
        at = t.double().cpu()
        found = np.interp(2 * (at.log() - (-at).log1p()).numpy(), *_ddpm_levels())
        return torch.from_numpy(found).to(t.device)

    def noise_share(self, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """t^2 / (t^2 + (1 - t)^2)."""
        t = t.double()
        return t**2 / (t**2 + (1 - t) ** 2)

    def snr(self, t: Real[Tensor, " b"]) -> Float[Tensor, " b"]:
        """((1 - t) / t)^2."""
        return ((1 - t) / t) ** 2

    def error_ratio(self, t: Real[Tensor, " b"]) -> Float[Tensor, " b"]:
        """1 / t^2, for x_0 = x_t - t u."""
        return t**-2


def _scales(t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Scales of signal and noise, shaped to multiply `like`."""
    scale = shaped(t, like)
    return 1 - scale, scale


@lru_cache(maxsize=1)
def _ddpm_levels() -> tuple[np.ndarray, np.ndarray]:
    """Levels of DDPM's timesteps: minus log SNR, rising, and the level (index + 1) / T."""
    kept = torch.cumprod(1 - linear_betas(NUM_TIMESTEPS), dim=0)
    return ((1 - kept).log() - kept.log()).numpy(), np.arange(1, NUM_TIMESTEPS + 1) / NUM_TIMESTEPS
