"""Which time and which source each slot of a batch gets: all that distinguishes one method from another.

`supervised` draws here; how a recipe of Diff-Tuning does is a file of its own, which `config.recipes` names.

The draws of a step are a function of (seed, step). Two methods with the same seed see the same images and noise slot by
slot, and the same times where both draw them uniformly; they differ in which slots the retention set takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from difftune_core.config.recipes import all_recipes
from difftune_core.config.transfer import DiffTuning, DiffTuningHyperparameters, Supervised
from difftune_core.diffusion.process import Process
from difftune_core.hooks import TaskError
from difftune_core.runtime.rng import generator


@dataclass(frozen=True)
class Draws:
    """One step's choices for b slots."""

    t: Real[Tensor, " b"]
    """Time of the process; for DDPM the timestep index, 0..T-1."""
    is_target: Bool[Tensor, " b"]
    """Whether the slot learns the target data; else, with the null label, it retains what the base model knows."""
    weight: Float[Tensor, " b"]
    """Weight of the slot's loss; the step's loss is the mean of the weighted losses."""


@runtime_checkable  # the tests check arguments at run time
class Draw(Protocol):
    """The draws of a recipe."""

    def __call__(self, hyperparameters: DiffTuningHyperparameters, *, seed: int, step: int, process: Process) -> Draws:
        """Draw for one optimizer step: a function of its arguments."""


def draw(method: Supervised | DiffTuning, *, seed: int, step: int, process: Process) -> Draws:
    """The draws of one optimizer step. `supervised` is psi = 1, so tau = 0 gives the same draws bit for bit.

    Raises:
        TaskError: as `check_recipe_is_here`.
    """
    if isinstance(method, DiffTuning):
        return _draw_of(method.hyperparameters.recipe)(method.hyperparameters, seed=seed, step=step, process=process)
    size = method.hyperparameters.batch_size
    t = process.draw_times(size, generator(seed, step, "timestep"))
    return Draws(t, torch.ones(size, dtype=torch.bool), torch.ones(size))


def check_recipe_is_here(method: Supervised | DiffTuning) -> None:
    """Refuse a recipe that this installation cannot draw by, before anything is prepared for it.

    Raises:
        TaskError: `recipe_unknown`, `recipe_unloadable`.
    """
    if isinstance(method, DiffTuning):
        _draw_of(method.hyperparameters.recipe)


@cache
def _draw_of(name: str) -> Draw:
    field = "method.diff_tuning.hyperparameters.recipe"
    recipe = all_recipes().get(name)
    if recipe is None:
        message = f"there is no recipe {name!r} here: known are {', '.join(all_recipes())}"
        raise TaskError("recipe_unknown", message, field)
    module, _, function = recipe.draw.partition(":")
    try:
        found: Draw = getattr(import_module(module), function)
    except Exception as error:  # whatever a stranger's module raises
        raise TaskError("recipe_unloadable", f"the recipe {name!r} cannot be loaded: {error}", field) from error
    return found
