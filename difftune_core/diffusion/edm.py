"""EDM (Karras et al. 2022): x = x_0 + sigma eps, a preconditioned network, a log-normal law of sigma.

The denoiser is D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (eq. 7), with the scalings of table 1. The loss
lambda(sigma) |D - x_0|^2 with lambda = 1 / c_out^2 is the plain squared error of F (eq. 8), which is how we take it. A
process's time here is sigma. Shapes: b images, `...` their latent shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from difftune_core.diffusion.continuous import Continuous, quantiles, shaped

_LEAST = 2.0**-53


@dataclass(frozen=True)
class EDM(Continuous):
    """Sigma is log-normal: ln sigma ~ N(p_mean, p_std^2) (table 1)."""

    sigma_data: float = 0.5
    """Standard deviation of the data."""
    p_mean: float = -1.2
    p_std: float = 1.2

    def draw_times(
        self, count: int, stream: torch.Generator, share: tuple[float, float] = (0.0, 1.0)
    ) -> Real[Tensor, " {count}"]:
        """Draw times by the quantiles of the log-normal law."""
        normal: Tensor = torch.special.ndtri(quantiles(count, stream, share).clamp(_LEAST, 1 - _LEAST))
        return (self.p_mean + self.p_std * normal).exp().float()

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Add noise to x_0, whose scale stays."""
        return x0 + shaped(t, x0) * noise

    def network_inputs(
        self, x_t: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
        """c_in x with c_in = 1 / sqrt(sigma^2 + sigma_data^2), and c_noise = ln(sigma) / 4."""
        return x_t / self._norm(shaped(t, x_t)), t.float().log() / 4

    def target(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """(x_0 - c_skip x) / c_out, written without the difference that loses digits at small sigma."""
        sigma = shaped(t, x0)
        return (sigma * x0 / self.sigma_data - self.sigma_data * noise) / self._norm(sigma)

    def implied_x0(
        self, output: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """D: c_skip = sigma_data^2 / (sigma^2 + sigma_data^2), c_out = sigma sigma_data / their root."""
        sigma = shaped(t, x_t)
        norm = self._norm(sigma)
        return (self.sigma_data / norm) ** 2 * x_t + sigma * self.sigma_data / norm * output

    def level(self, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """The share of training that sees less noise, cdf(sigma) (Diff-Tuning, App. E)."""
        share: Tensor = torch.special.ndtr((t.double().log() - self.p_mean) / self.p_std)
        return share

    def noise_share(self, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """sigma^2 / (1 + sigma^2)."""
        variance = t.double() ** 2
        return variance / (1 + variance)

    def snr(self, t: Real[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Signal-to-noise ratio: 1 / sigma^2."""
        return t**-2

    def error_ratio(self, t: Real[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Squared error of the output per squared error of x_0: 1 / c_out^2."""
        return (self._norm(t) / (t * self.sigma_data)) ** 2

    def _norm(self, sigma: Tensor) -> Tensor:
        return (sigma**2 + self.sigma_data**2).sqrt()
