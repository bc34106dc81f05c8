"""DDPM with a learned variance as public trainers compute it: tables of numpy, brought to the device at each use.

Every table that a step uses is a copy from pageable memory, which drains a GPU's queue: 18 of them in the loss of
a DiT, 8 in a step of its sampler. Shapes: b images, c latent channels, h w their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from difftune_core.objectives.denoising import discretised_gaussian_log_likelihood, gaussian_kl

Model = Callable[[Tensor, Tensor, Tensor], Tensor]
_STEPS = 1000


class NumpyDiffusion:
    """The process of the published DiT, or a respaced part of its timesteps."""

    def __init__(self, timesteps: int = _STEPS) -> None:
        """Compute the tables for `timesteps` of the 1000, evenly spread."""
        kept = np.round(np.linspace(0, _STEPS - 1, timesteps)).astype(np.int64)
        products = np.cumprod(1 - np.linspace(1e-4, 0.02, _STEPS, dtype=np.float64))[kept]
        before = np.append(1.0, products[:-1])
        betas = 1 - products / before
        variance = betas * (1 - before) / (1 - products)
        self.kept = kept
        self.signal, self.noise = np.sqrt(products), np.sqrt(1 - products)
        self.inverse, self.inverse_noise = np.sqrt(1 / products), np.sqrt(1 / products - 1)
        self.log_betas = np.log(betas)
        self.log_variance = np.log(np.append(variance[1], variance[1:]))
        self.variance = variance
        self.of_x0 = betas * np.sqrt(before) / (1 - products)
        self.of_x_t = (1 - before) * np.sqrt(1 - betas) / (1 - products)

    def losses(self, model: Model, x0: Tensor, t: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Squared error of the noise plus the bound of the variance, for each image."""
        x_t = _at(self.signal, t) * x0 + _at(self.noise, t) * noise
        predicted, fraction = model(x_t, t.float(), labels).chunk(2, dim=1)
        bound = self._bound(predicted.detach(), fraction, x0, x_t, t)
        self._posterior(x0, x_t, t)  # the target of a prediction that nobody asked for: it is computed all the same
        return (noise - predicted).square().flatten(1).mean(1) + bound

    def step_back(self, model: Model, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """One step of the sampler, from timestep `t` of the kept ones to the one before."""
        timesteps = torch.from_numpy(self.kept).to(x_t.device)[t]
        predicted, fraction = model(x_t, timesteps.float(), labels).chunk(2, dim=1)
        mean, log_variance = self._reverse(predicted, fraction, x_t, t)
        is_last = (t != 0).float().view(-1, 1, 1, 1)
        return mean + is_last * (0.5 * log_variance).exp() * torch.randn_like(x_t)

    def _reverse(self, predicted: Tensor, fraction: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        share = (fraction + 1) / 2
        log_variance = share * _at(self.log_betas, t) + (1 - share) * _at(self.log_variance, t)
        x0 = _at(self.inverse, t) * x_t - _at(self.inverse_noise, t) * predicted
        return self._posterior(x0, x_t, t)[0], log_variance

    def _posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and its logarithm of the step before x_t."""
        mean = _at(self.of_x0, t) * x0 + _at(self.of_x_t, t) * x_t
        return mean, _at(self.variance, t), _at(self.log_variance, t)

    def _bound(self, predicted: Tensor, fraction: Tensor, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The bound in bits per dimension, for each image."""
        true_mean, _, true_log_variance = self._posterior(x0, x_t, t)
        mean, log_variance = self._reverse(predicted, fraction, x_t, t)
        apart = gaussian_kl(true_mean, true_log_variance, mean, log_variance).flatten(1).mean(1)
        said = -discretised_gaussian_log_likelihood(x0, mean, 0.5 * log_variance).flatten(1).mean(1)
        return torch.where(t == 0, said, apart) / math.log(2)


def _at(table: np.ndarray, t: Tensor) -> Tensor:
    return torch.from_numpy(table).to(t.device)[t].float().view(-1, 1, 1, 1)
