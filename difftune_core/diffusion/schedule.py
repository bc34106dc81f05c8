"""Noise schedule of a discrete diffusion process and its posterior (Ho et al. 2020; Nichol and Dhariwal 2021).

Shapes: b images in the batch, `...` their latent shape. Timesteps are indices 0..T-1; the paper's t is index + 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

LINEAR_BETA_START, LINEAR_BETA_END = 1e-4, 0.02  # DDPM, sec. 4, for T = 1000
NUM_TIMESTEPS = 1000


def linear_betas(num_timesteps: int) -> Float[Tensor, " T"]:
    """Betas rising linearly, scaled so that every T adds about the same noise as DDPM's 1000 steps. float64."""
    scale = NUM_TIMESTEPS / num_timesteps
    return torch.linspace(scale * LINEAR_BETA_START, scale * LINEAR_BETA_END, num_timesteps, dtype=torch.float64)


class NoiseSchedule(nn.Module):
    """Tables over timesteps, computed in float64 and kept in float32 on the module's device.

    Args:
        betas: forward process variances, in (0, 1).
    """

    alphas_cumprod: Tensor
    """Share of the signal's variance that is left at each t."""

    def __init__(self, betas: Float[Tensor, " T"]) -> None:
        super().__init__()
        betas = betas.double()
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
        variance = betas * (1 - previous) / (1 - alphas_cumprod)  # DDPM eq. 7
        # At t = 0 the posterior variance is 0; its log is taken from t = 1, as improved DDPM does.
        clipped = torch.cat([variance[1:2], variance[1:]]) if len(betas) > 1 else betas
        tables = {
            "alphas_cumprod": alphas_cumprod,
            "sqrt_alphas_cumprod": alphas_cumprod.sqrt(),
            "sqrt_one_minus_alphas_cumprod": (1 - alphas_cumprod).sqrt(),
            "log_betas": betas.log(),
            "posterior_log_variance": clipped.log(),
            "posterior_x0_coefficient": betas * previous.sqrt() / (1 - alphas_cumprod),
            "posterior_xt_coefficient": (1 - previous) * (1 - betas).sqrt() / (1 - alphas_cumprod),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.float(), persistent=False)
        self.num_timesteps = len(betas)

    def at(self, name: str, t: Int[Tensor, " b"], like: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Table `name` at each t, shaped to multiply `like`."""
        table: Tensor = getattr(self, name)
        return table[t].reshape(-1, *[1] * (like.ndim - 1))

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """x_t ~ q(x_t | x_0) (DDPM eq. 4)."""
        return self.at("sqrt_alphas_cumprod", t, x0) * x0 + self.at("sqrt_one_minus_alphas_cumprod", t, x0) * noise

    def posterior_mean(
        self, x0: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Mean of q(x_{t-1} | x_t, x_0) (DDPM eq. 7)."""
        return self.at("posterior_x0_coefficient", t, x0) * x0 + self.at("posterior_xt_coefficient", t, x_t) * x_t
