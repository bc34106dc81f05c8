"""Diffusers' schedulers as samplers: one table of what fits which process, and how each is set up.

All but `ddpm` are deterministic. `dpmsolver++` (Lu et al. 2022) and `unipc` (Zhao et al. 2023) are of order 2. A
scheduler keeps state over the steps of a chain, so every batch needs one of its own.
"""

from __future__ import annotations

from typing import Any

from difftune_core.diffusion.schedule import LINEAR_BETA_END, LINEAR_BETA_START
from difftune_core.models.dit import DiTConfig
from difftune_core.sampling_config import Sampler

_PREDICTION_TYPES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}


def make_scheduler(sampler: Sampler, num_inference_steps: int, config: DiTConfig | None = None) -> Any:
    """A fresh scheduler for a model of this anatomy (without one: DiT's as published).

    Raises:
        TaskError: `sampler_not_for_process`.
    """
    scheduler = _ddpm_scheduler(sampler, config or DiTConfig())
    scheduler.set_timesteps(num_inference_steps)
    return scheduler


def _ddpm_scheduler(sampler: Sampler, config: DiTConfig) -> Any:
    """For DiT's linear schedule; DDPM takes the variance that the model learned, else the posterior's.

    `trailing` spacing starts at pure noise and keeps DDIM's constant stride consistent down to x_0.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    common: dict[str, Any] = {
        "beta_start": LINEAR_BETA_START,
        "beta_end": LINEAR_BETA_END,
        "beta_schedule": "linear",
        "timestep_spacing": "trailing",
        "prediction_type": _PREDICTION_TYPES[config.prediction],
    }
    if sampler == "dpmsolver++":
        return DPMSolverMultistepScheduler(**common, solver_order=2)
    if sampler == "unipc":
        return UniPCMultistepScheduler(**common, solver_order=2)
    if sampler == "ddim":
        return DDIMScheduler(**common, clip_sample=False)
    variance = "learned_range" if config.learn_sigma else "fixed_small"
    return DDPMScheduler(**common, variance_type=variance, clip_sample=False)
