"""Functions of the timestep: psi, the laws that t is drawn by, and weights of the loss.

Timesteps are indices 0..T-1; the paper's t runs from 1 to T, so index t stands for t + 1. All in float64.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from difftune_core.config import DiffTuningHyperparameters
from difftune_core.diffusion.schedule import NoiseSchedule

MIN_SNR_GAMMA = 5.0
P2_GAMMA, P2_K = 0.5, 1.0


def psi(hyperparameters: DiffTuningHyperparameters, schedule: NoiseSchedule) -> Float[Tensor, " T"]:
    """Weight of the target data at every t: 1 at pure noise, towards 0 at the data (Diff-Tuning sec. 3.3)."""
    if hyperparameters.psi == "snr":
        return 1 - schedule.alphas_cumprod.double()  # 1 / (1 + SNR)
    steps = torch.arange(1, schedule.num_timesteps + 1, dtype=torch.float64)
    return ((steps / schedule.num_timesteps) ** hyperparameters.tau).to(schedule.alphas_cumprod.device)


def power_law(num_timesteps: int, exponent: float, *, rising: bool) -> Float[Tensor, " T"]:
    """Probabilities of the released code: proportional to i^s for the target, (T + 1 - i)^s for retention, i = 1..T."""
    steps = torch.arange(1, num_timesteps + 1, dtype=torch.float64)
    weights = (steps if rising else num_timesteps + 1 - steps) ** exponent
    return weights / weights.sum()


def draw_timesteps(
    law: Float[Tensor, " T"] | None, count: int, num_timesteps: int, stream: torch.Generator
) -> Int[Tensor, " {count}"]:
    """Timestep indices by `law`, uniform where it is None."""
    if law is None:
        return torch.randint(num_timesteps, (count,), generator=stream)
    return torch.multinomial(law, count, replacement=True, generator=stream)


def mse_weight(
    kind: Literal["none", "min_snr", "p2"], schedule: NoiseSchedule, t: Int[Tensor, " b"]
) -> Float[Tensor, " b"] | None:
    """Weight of the squared error of the noise prediction; None for 1.

    Min-SNR (Hang et al. 2023) in its form for noise prediction, min(SNR, gamma) / SNR: without the division, as in the
    released code, it would weigh noisy timesteps down to nothing. P2 (Choi et al. 2022): (k + SNR)^-gamma.
    """
    if kind == "none":
        return None
    kept = schedule.alphas_cumprod[t]
    snr = kept / (1 - kept)
    return snr.clamp(max=MIN_SNR_GAMMA) / snr if kind == "min_snr" else (P2_K + snr) ** -P2_GAMMA
