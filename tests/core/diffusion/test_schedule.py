from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from difftune_core.diffusion.process import DDPM
from difftune_core.diffusion.schedule import NoiseSchedule, linear_betas


def test_linear_betas_are_ddpms() -> None:
    betas = linear_betas(1000)
    assert betas[0] == 1e-4
    assert torch.isclose(betas[-1], torch.tensor(0.02, dtype=torch.float64))


def test_fewer_timesteps_add_about_the_same_noise() -> None:
    long, short = (NoiseSchedule(linear_betas(n)).alphas_cumprod[-1] for n in (1000, 250))
    assert long < 1e-4
    assert short < 1e-4


@given(t=st.integers(0, 999), seed=st.integers(0, 2**20))
def test_the_noise_implies_the_image(t: int, seed: int) -> None:
    schedule = NoiseSchedule(linear_betas(1000))
    stream = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 1, 4, 2, 2, generator=stream)
    at = torch.tensor([t])
    found = DDPM(schedule).implied_x0(noise, schedule.add_noise(x0, noise, at), at)
    # Near pure noise x0 is what is left after dividing by sqrt(alpha_bar): float32 loses digits there.
    assert torch.allclose(found, x0, atol=1e-5 / float(schedule.sqrt_alphas_cumprod[t]))


def test_posterior_agrees_with_bayes_in_closed_form() -> None:
    """q(x_{t-1} | x_t, x_0) from the product of two Gaussians, in float64."""
    betas = linear_betas(1000)
    schedule = NoiseSchedule(betas)
    bar = torch.cumprod(1 - betas, 0)
    for t in (1, 10, 500, 999):
        precision = 1 / (1 - bar[t - 1]) + (1 - betas[t]) / betas[t]
        x0, x_t = torch.full((1, 1, 1, 1), 0.3), torch.full((1, 1, 1, 1), -1.1)
        mean = (x0 * bar[t - 1].sqrt() / (1 - bar[t - 1]) + x_t * (1 - betas[t]).sqrt() / betas[t]) / precision
        at = torch.tensor([t])
        assert torch.allclose(schedule.posterior_mean(x0, x_t, at), mean.float(), atol=1e-5)
        assert torch.isclose(schedule.posterior_log_variance[t].double(), (1 / precision).log(), atol=1e-4)
