"""Functions of the time: psi, the laws that timesteps are drawn by, and weights of the loss.

Timesteps are indices 0..T-1; the paper's t runs from 1 to T, so index t stands for t + 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int, Real
from torch import Tensor

from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.config.weighting import LossWeighting
from difftune_core.diffusion.process import Process

MIN_SNR_GAMMA = 5.0
P2_GAMMA, P2_K = 0.5, 1.0


def psi(hyperparameters: DiffTuningHyperparameters, process: Process, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
    """Weight of the target data at t: 1 at pure noise, towards 0 at the data (Diff-Tuning sec. 3.3)."""
    if hyperparameters.psi == "snr":
        return process.noise_share(t)
    return process.level(t) ** hyperparameters.tau


def power_law(num_timesteps: int, exponent: float, *, rising: bool) -> Float[Tensor, " T"]:
    """Probabilities of the released code: proportional to i^s for the target, (T + 1 - i)^s for retention, i = 1..T."""
    steps = torch.arange(1, num_timesteps + 1, dtype=torch.float64)
    weights = (steps if rising else num_timesteps + 1 - steps) ** exponent
    return weights / weights.sum()


def draw_timesteps(law: Float[Tensor, " T"], count: int, stream: torch.Generator) -> Int[Tensor, " {count}"]:
    """Timestep indices by `law`."""
    return torch.multinomial(law, count, replacement=True, generator=stream)


def mse_weight(kind: LossWeighting, process: Process, t: Real[Tensor, " b"]) -> Float[Tensor, " b"] | None:
    """Weight of the squared error of the model's output; None for 1.

    Min-SNR (Hang et al. 2023) is min(SNR, gamma) on the error of x_0, P2 (Choi et al. 2022) is (k + SNR)^-gamma on the
    error of the noise, which is SNR times that of x_0. Divided by what an output's error is of x_0's they become
    min(SNR, gamma) / SNR for epsilon and min(SNR, gamma) / (1 + SNR) for v. Without the division for epsilon, as in the
    released code, Min-SNR would weigh noisy timesteps down to nothing. psi is the level itself, on the error of what is
    predicted.
    """
    if kind == "none":
        return None
    if kind == "psi":
        return process.level(t).float()
    snr, ratio = process.snr(t), process.error_ratio(t)
    return snr.clamp(max=MIN_SNR_GAMMA) / ratio if kind == "min_snr" else (P2_K + snr) ** -P2_GAMMA * (snr / ratio)
