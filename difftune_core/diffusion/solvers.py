"""Diffusers' schedulers as samplers: how each is set up for a process.

All but `ddpm` are deterministic. `dpmsolver++` (Lu et al. 2022) and `unipc` (Zhao et al. 2023) are of order 2, `heun`
asks the model twice a step. A scheduler keeps state over the steps of a chain, so every batch needs one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate, repeat
from typing import Any

import numpy as np
import torch
from jaxtyping import Real
from torch import Tensor

from difftune_core.config.sampling import Sampler, check_sampler
from difftune_core.diffusion.process import NoiseConfig, TrainedNoise
from difftune_core.diffusion.schedule import LINEAR_BETA_END, LINEAR_BETA_START, NUM_TIMESTEPS
from difftune_core.runtime.imports import uncollected

_PREDICTION_TYPES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
_MODULES = {
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "DPMSolverMultistep": "dpmsolver_multistep",
    "EDMDPMSolverMultistep": "edm_dpmsolver_multistep",
    "EDMEuler": "edm_euler",
    "FlowMatchEulerDiscrete": "flow_match_euler_discrete",
    "FlowMatchHeunDiscrete": "flow_match_heun_discrete",
    "UniPCMultistep": "unipc_multistep",
}


@dataclass(frozen=True)
class Solver:
    """A scheduler at the start of a chain, in terms of the model's process."""

    scheduler: Any
    times: Real[Tensor, " steps"]
    """The process's time at each of `scheduler.timesteps`."""
    initial_scale: float
    """Standard deviation of the noise that the chain starts from."""


def make_solver(sampler: Sampler, num_inference_steps: int, config: TrainedNoise) -> Solver:
    """Make a fresh solver for a network that was trained with this noise.

    Raises:
        TaskError: `sampler_not_for_process`.
    """
    scheduler = make_scheduler(sampler, num_inference_steps, config)
    if config.process == "ddpm":
        return Solver(scheduler, scheduler.timesteps, 1.0)
    scheduler.set_begin_index(0)  # by its timesteps, which are rounded, it might begin at another
    if config.process == "edm":
        scheduler.is_scale_input_called = True  # the process scales the model's input
        return Solver(scheduler, scheduler.sigmas[:-1], float(scheduler.sigmas[0]))
    whole = sampler in {"euler", "heun"}
    return Solver(scheduler, scheduler.timesteps / NUM_TIMESTEPS if whole else scheduler.sigmas[:-1], 1.0)


def make_scheduler(sampler: Sampler, num_inference_steps: int, config: TrainedNoise | None = None) -> Any:
    """Set up diffusers' scheduler for a network that was trained so (without a config: DiT's as published).

    Raises:
        TaskError: `sampler_not_for_process`.
    """
    config = config or NoiseConfig()
    check_sampler(sampler, config.process)
    if config.process == "flow":
        return _flow_scheduler(sampler, num_inference_steps)
    scheduler = _edm_scheduler(sampler, config) if config.process == "edm" else _ddpm_scheduler(sampler, config)
    return set_up(scheduler, num_inference_steps)


def discrete_solver(sampler: Sampler, num_inference_steps: int, fields: dict[str, Any]) -> Solver:
    """Make a fresh solver over the discrete timesteps that `fields` describe, as `discrete_scheduler` takes them."""
    scheduler = set_up(discrete_scheduler(sampler, fields), num_inference_steps)
    return Solver(scheduler, scheduler.timesteps, 1.0)


def set_up(scheduler: Any, num_inference_steps: int) -> Any:
    """Return the scheduler at the start of a chain of so many steps."""
    if scheduler.config.get("timestep_spacing") == "linspace":
        scheduler.set_timesteps(timesteps=respaced(num_inference_steps, scheduler.config.num_train_timesteps))
    else:
        scheduler.set_timesteps(num_inference_steps)
    if len(scheduler.timesteps) > num_inference_steps:
        _drop_last(scheduler, num_inference_steps)
    return scheduler


def respaced(num_inference_steps: int, num_timesteps: int = NUM_TIMESTEPS) -> list[int]:
    """Timesteps of a shortened DDPM chain, falling, as Improved DDPM (Nichol & Dhariwal 2021), ADM and DiT space them.

    Their rule adds up one float stride and rounds each sum, ties to the even number. The sums' errors decide ties (21
    steps: 499, where ten times the stride rounds to 500), so they are part of the rule. A single step is at pure noise,
    T - 1; theirs would be at 0, where nothing is left to denoise.
    """
    if num_inference_steps == 1:
        return [num_timesteps - 1]
    stride = (num_timesteps - 1) / (num_inference_steps - 1)
    return [round(at) for at in accumulate(repeat(stride, num_inference_steps - 1), initial=0.0)][::-1]


def _drop_last(scheduler: Any, num_inference_steps: int) -> None:
    """Drop the last step where it is one too many: for some counts (61, 103, ...) a sum of rounded strides leaves a
    step too many, at timestep -1.
    """
    scheduler.timesteps = scheduler.timesteps[:num_inference_steps]
    scheduler.num_inference_steps = num_inference_steps
    if isinstance(getattr(scheduler, "sigmas", None), Tensor):
        scheduler.sigmas = torch.cat([scheduler.sigmas[:num_inference_steps], scheduler.sigmas[-1:]])


def _ddpm_scheduler(sampler: Sampler, config: TrainedNoise) -> Any:
    """The scheduler of DiT's linear schedule; DDPM takes the variance that the model learned, else the posterior's."""
    betas = {"beta_start": LINEAR_BETA_START, "beta_end": LINEAR_BETA_END, "beta_schedule": "linear"}
    prediction = _PREDICTION_TYPES[config.prediction]
    return discrete_scheduler(sampler, {**betas, "prediction_type": prediction}, learned_variance=config.learn_sigma)


def _scheduler(name: str) -> Any:
    """A scheduler's class by its name. Some load scipy's statistics, which the others need not wait for."""
    with uncollected():
        module = import_module(f"diffusers.schedulers.scheduling_{_MODULES[name]}")
    return getattr(module, f"{name}Scheduler")


def discrete_scheduler(sampler: Sampler, fields: dict[str, Any], *, learned_variance: bool = False) -> Any:
    """A scheduler over discrete timesteps; `fields` are the betas and the kind of prediction, as diffusers names them.

    `trailing` spacing starts at pure noise and keeps DDIM's constant stride consistent down to x_0. DDPM's steps are
    `respaced`, down to 0: its last one adds no noise.
    """
    common: dict[str, Any] = {**fields, "timestep_spacing": "trailing"}
    if sampler == "dpmsolver++":
        return _scheduler("DPMSolverMultistep")(**common, solver_order=2)
    if sampler == "unipc":
        return _scheduler("UniPCMultistep")(**common, solver_order=2)
    if sampler == "ddim":
        return _scheduler("DDIM")(**common, clip_sample=False)
    variance = "learned_range" if learned_variance else "fixed_small"
    return _scheduler("DDPM")(**{**common, "timestep_spacing": "linspace"}, variance_type=variance, clip_sample=False)


def _flow_scheduler(sampler: Sampler, num_inference_steps: int) -> Any:
    """The scheduler from t = 1, pure noise, to 0 in equal steps; Heun's and DPM-Solver++'s ends are diffusers' own."""
    flow: dict[str, Any] = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": 2}
    name, settings = {
        "euler": ("FlowMatchEulerDiscrete", {}),
        "heun": ("FlowMatchHeunDiscrete", {}),
        "dpmsolver++": ("DPMSolverMultistep", flow),
        "unipc": ("UniPCMultistep", flow),
    }[sampler]
    scheduler = _scheduler(name)(**settings)
    if sampler == "euler":
        scheduler.set_timesteps(sigmas=np.linspace(1, 0, num_inference_steps + 1)[:-1])
    else:
        scheduler.set_timesteps(num_inference_steps)
    return scheduler


def _edm_scheduler(sampler: Sampler, config: TrainedNoise) -> Any:
    """EDM's own steps (eq. 5), from sigma = 80 to 0.002 and 0."""
    if sampler == "euler":
        return _scheduler("EDMEuler")(sigma_data=config.sigma_data)
    return _scheduler("EDMDPMSolverMultistep")(sigma_data=config.sigma_data, solver_order=2)
