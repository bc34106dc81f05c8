"""Names of diffusion processes, predictions and samplers, shared by cards, models and every config that samples."""

from __future__ import annotations

from typing import Literal

from difftune_core.hooks import TaskError

ProcessName = Literal["ddpm", "flow", "edm"]
Prediction = Literal["epsilon", "x0", "v"]
Sampler = Literal["ddim", "ddpm", "dpmsolver++", "unipc", "euler", "heun"]
Guidance = Literal["cfg", "domain", "none"]
"""Whose null branch a sample is guided away from: its own model's, the source model's, or none's."""

SAMPLERS: dict[ProcessName, tuple[Sampler, ...]] = {
    "ddpm": ("ddim", "ddpm", "dpmsolver++", "unipc"),
    "flow": ("euler", "heun", "dpmsolver++", "unipc"),
    "edm": ("euler", "dpmsolver++"),
}
"""The samplers of each process, the default first."""


def check_sampler(sampler: Sampler, process: ProcessName, param: str = "sampler") -> None:
    """Refuse a sampler that cannot run this process backwards.

    Raises:
        TaskError: `sampler_not_for_process`.
    """
    if sampler not in SAMPLERS[process]:
        message = f"the sampler {sampler!r} does not fit a model of the process {process!r}, which has: "
        raise TaskError("sampler_not_for_process", message + ", ".join(SAMPLERS[process]), param)
