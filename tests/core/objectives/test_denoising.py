from __future__ import annotations

import math

import pytest
import torch

from difftune_core.config.sampling import Prediction
from difftune_core.diffusion.process import DDPM
from difftune_core.objectives.denoising import (
    denoising_loss,
    discretised_gaussian_log_likelihood,
    gaussian_kl,
    noised,
    variational_bound,
)
from tests.core.predictions import converted


def test_kl_agrees_with_torch() -> None:
    means, log_variances = torch.randn(2, 50), torch.randn(2, 50)
    first, second = (torch.distributions.Normal(m, (v / 2).exp()) for m, v in zip(means, log_variances, strict=True))
    ours = gaussian_kl(means[0], log_variances[0], means[1], log_variances[1])
    assert torch.allclose(ours, torch.distributions.kl_divergence(first, second), atol=1e-4)


def test_the_bins_of_8_bit_data_hold_all_probability() -> None:
    bins = torch.linspace(-1, 1, 256)
    for mean, log_scale in ((0.0, -2.0), (0.9, -1.0), (-1.0, -3.0)):
        log_probability = discretised_gaussian_log_likelihood(
            bins, torch.full_like(bins, mean), torch.full_like(bins, log_scale)
        )
        assert math.isclose(float(log_probability.exp().sum()), 1.0, abs_tol=2e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_a_perfect_prediction_leaves_only_the_variance(prediction: Prediction, ddpm: DDPM) -> None:
    """With the true output and the posterior's own variance (fraction -1) the bound is zero for t > 0."""
    process = DDPM(ddpm.schedule, prediction)
    x0, noise = torch.randn(2, 6, 4, 8, 8)
    batch = noised(x0, noise, torch.tensor([1, 5, 50, 300, 700, 999]), process)
    perfect = torch.cat([process.target(x0, noise, batch.t), torch.full_like(noise, -1.0)], dim=1)
    assert torch.allclose(denoising_loss(perfect, batch, process), torch.zeros(6), atol=1e-3)


def test_one_denoiser_has_one_bound_whatever_it_predicts(ddpm: DDPM) -> None:
    """The same wrong guess of x0, told as epsilon, x0 and v: the part of the loss beyond the MSE is the same."""
    t = torch.tensor([0, 9, 300, 800])
    x0, noise, guess, fraction = torch.randn(4, 4, 4, 8, 8)
    bounds = []
    for prediction in ("epsilon", "x0", "v"):
        process = DDPM(ddpm.schedule, prediction)
        batch = noised(x0, noise, t, process)
        a, s = (ddpm.schedule.at(f"sqrt_{n}", t, x0) for n in ("alphas_cumprod", "one_minus_alphas_cumprod"))
        output = converted(guess, batch.x_t, a, s, given="x0", wanted=prediction)
        whole = denoising_loss(torch.cat([output, fraction], dim=1), batch, process)
        bounds.append(whole - denoising_loss(output, batch, process))
    assert torch.allclose(bounds[0], bounds[1], rtol=0.02, atol=1e-3)
    assert torch.allclose(bounds[2], bounds[1], rtol=0.02, atol=1e-3)
    assert (bounds[1] > 0).any()


def test_the_bound_does_not_teach_the_mean(ddpm: DDPM) -> None:
    x0, noise = torch.randn(2, 4, 4, 8, 8)
    batch = noised(x0, noise, torch.tensor([0, 9, 99, 999]), ddpm)
    output = torch.randn(4, 8, 8, 8, requires_grad=True)
    torch.autograd.backward(denoising_loss(output, batch, ddpm).sum())
    assert output.grad is not None
    alone = torch.randn(4, 4, 8, 8) * 0 + output[:, :4].detach()
    alone.requires_grad_()
    torch.autograd.backward((alone - noise).square().flatten(1).mean(1).sum())
    assert torch.allclose(output.grad[:, :4], alone.grad)
    assert output.grad[:, 4:].any()


def test_the_bound_is_in_bits_per_dimension(ddpm: DDPM) -> None:
    x0, noise = torch.randn(2, 1, 4, 8, 8)
    batch = noised(x0, noise, torch.tensor([500]), ddpm)
    wrong = noise + 0.5
    fraction = torch.full_like(noise, -1.0)
    schedule = ddpm.schedule
    log_variance = schedule.posterior_log_variance[500]
    t = torch.tensor([500])
    shift = schedule.posterior_mean(ddpm.implied_x0(wrong, batch.x_t, t), batch.x_t, t)
    true = schedule.posterior_mean(x0, batch.x_t, t)
    nats = (0.5 * (shift - true).square() / log_variance.exp()).mean()
    bits = variational_bound(ddpm.implied_x0(wrong, batch.x_t, t), fraction, batch, schedule)
    assert torch.allclose(bits, nats / math.log(2), rtol=1e-3)
