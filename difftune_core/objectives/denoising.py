"""The denoising loss: squared error of the model's own prediction, plus the bound where DiT learns a variance.

Improved DDPM (Nichol and Dhariwal 2021), sec. 3.1: the variance is interpolated in the log domain between beta and its
posterior (eq. 15) and trained by the bound with the mean held fixed, so that the bound does not disturb the
prediction. T = 1000 makes the bound's weight 1, as DiT uses it. Shapes: b images, c latent channels, h w their size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from difftune_core.diffusion.process import DDPM, Process
from difftune_core.diffusion.schedule import NoiseSchedule

_HALF_BIN = 1 / 255  # a bin of 8-bit data scaled to [-1, 1] is 2/255 wide; kept for latents as the originals do
_EDGE = 0.999
_LOG_FLOOR = 1e-12


@dataclass(frozen=True)
class NoisedBatch:
    """Clean latents, the noise that was added, the result, and when: x_t = add_noise(x0, noise, t)."""

    x0: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b c h w"]
    x_t: Float[Tensor, "b c h w"]
    t: Real[Tensor, " b"]

    def part(self, slots: slice) -> NoisedBatch:
        """Return some of the images."""
        return NoisedBatch(self.x0[slots], self.noise[slots], self.x_t[slots], self.t[slots])


def noised(
    x0: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: Real[Tensor, " b"], process: Process
) -> NoisedBatch:
    """Carry x0 to times t."""
    return NoisedBatch(x0, noise, process.add_noise(x0, noise, t), t)


@runtime_checkable  # the tests check arguments at run time
class Loss(Protocol):
    """The loss of a method or a recipe."""

    def __call__(
        self,
        output: Float[Tensor, "b out h w"],
        batch: NoisedBatch,
        process: Process,
        weight: Float[Tensor, " b"] | None,
        *,
        hyperparameters: Any,
    ) -> Float[Tensor, " b"]:
        """Loss per image, before the draws' weight; otherwise as `denoising_loss`.

        `hyperparameters` are the method's.
        """


def denoising_loss(
    output: Float[Tensor, "b out h w"],
    batch: NoisedBatch,
    process: Process,
    weight: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, " b"]:
    """Loss per image: the MSE, plus the bound in bits per dimension where the output of a DDPM carries a variance.

    `weight` scales the MSE alone: the bound trains the variance, which has no part in a reweighting of the noise.
    """
    channels = batch.noise.shape[1]
    predicted = output[:, :channels]
    loss = (predicted - process.target(batch.x0, batch.noise, batch.t)).square().flatten(1).mean(1)
    if weight is not None:
        loss = loss * weight
    learned = variance_loss(output, batch, process)
    return loss if learned is None else loss + learned


def variance_loss(
    output: Float[Tensor, "b out h w"], batch: NoisedBatch, process: Process
) -> Float[Tensor, " b"] | None:
    """The bound in bits per dimension, which trains a DDPM's variance; None where the output carries none."""
    channels = batch.noise.shape[1]
    if not (isinstance(process, DDPM) and output.shape[1] == 2 * channels):
        return None
    x0 = process.implied_x0(output[:, :channels].detach(), batch.x_t, batch.t)
    return variational_bound(x0, output[:, channels:], batch, process.schedule)


def learned_log_variance(
    fraction: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], schedule: NoiseSchedule
) -> Float[Tensor, "b c h w"]:
    """Log variance from the model's output in [-1, 1] (improved DDPM eq. 15)."""
    low = schedule.at("posterior_log_variance", t, fraction)
    high = schedule.at("log_betas", t, fraction)
    share = (fraction + 1) / 2
    return share * high + (1 - share) * low


def variational_bound(
    predicted_x0: Float[Tensor, "b c h w"],
    fraction: Float[Tensor, "b c h w"],
    batch: NoisedBatch,
    schedule: NoiseSchedule,
) -> Float[Tensor, " b"]:
    """Compute a term of the bound per image, in bits per dimension: a KL; at t = 0 the decoder's likelihood."""
    x0, x_t, t = batch.x0, batch.x_t, batch.t
    log_variance = learned_log_variance(fraction, t, schedule)
    mean = schedule.posterior_mean(predicted_x0, x_t, t)
    true_mean = schedule.posterior_mean(x0, x_t, t)
    true_log_variance = schedule.at("posterior_log_variance", t, x0)
    kl = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
    nll = -discretised_gaussian_log_likelihood(x0, mean, 0.5 * log_variance)
    terms = torch.where((t == 0)[:, None], nll.flatten(1), kl.flatten(1))
    return terms.mean(1) / math.log(2)


def gaussian_kl(
    mean1: Float[Tensor, "..."], log_variance1: Float[Tensor, "..."], mean2: Tensor, log_variance2: Tensor
) -> Float[Tensor, "..."]:
    """KL(N1 || N2) per element, in nats."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1
        + (log_variance1 - log_variance2).exp()
        + (mean1 - mean2).square() * (-log_variance2).exp()
    )


def discretised_gaussian_log_likelihood(
    x: Float[Tensor, "..."], mean: Float[Tensor, "..."], log_scale: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Log probability of the 8-bit bin of x per element (DDPM eq. 13); the outer bins reach to infinity."""
    inverse = (-log_scale).exp()
    upper = _normal_cdf((x - mean + _HALF_BIN) * inverse)
    lower = _normal_cdf((x - mean - _HALF_BIN) * inverse)
    inner = torch.where(x < -_EDGE, upper, torch.where(x > _EDGE, 1 - lower, upper - lower))
    return inner.clamp(min=_LOG_FLOOR).log()


def _normal_cdf(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The tanh approximation that the originals use; the exact erf would change the loss in its fourth digit."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
