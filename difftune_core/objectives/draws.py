"""Which time, which source and which loss each slot of a batch gets: all that distinguishes one method from another.

`supervised` draws here; how a recipe of Diff-Tuning does is a file of its own, which `config.recipes` names.

The draws of a step are a function of (seed, step). Two methods with the same seed see the same images and noise slot by
slot, and the same times where both draw them uniformly; they differ in which slots the retention set takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from difftune_core.config.outside import load
from difftune_core.config.recipes import Recipe, all_recipes
from difftune_core.config.transfer import (
    DiffTuning,
    DiffTuningHyperparameters,
    Supervised,
    TrainingHyperparameters,
)
from difftune_core.diffusion.process import Process
from difftune_core.hooks import TaskError
from difftune_core.objectives.denoising import Loss, NoisedBatch, denoising_loss
from difftune_core.runtime.rng import generator

_FIELD = "method.diff_tuning.hyperparameters.recipe"


@dataclass(frozen=True)
class Draws:
    """One step's choices for b slots."""

    t: Real[Tensor, " b"]
    """Time of the process; for DDPM the timestep index, 0..T-1."""
    is_target: Bool[Tensor, " b"]
    """Whether the slot learns the target data; else, with the null label, it retains what the base model knows."""
    weight: Float[Tensor, " b"]
    """Weight of the slot's loss; the step's loss is the mean of the weighted losses."""
    guidance: Float[Tensor, " b"] | None = None
    """Share of the difference to the base model's prediction that is learned into the slot's; None where nothing is."""


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
        drawn: Draw = _loaded(method.hyperparameters.recipe, "draw")
        return drawn(method.hyperparameters, seed=seed, step=step, process=process)
    size = method.hyperparameters.batch_size
    t = process.draw_times(size, generator(seed, step, "timestep"))
    return Draws(t, torch.ones(size, dtype=torch.bool), torch.ones(size))


def losses(
    hyperparameters: TrainingHyperparameters,
    output: Float[Tensor, "b out h w"],
    batch: NoisedBatch,
    process: Process,
    weight: Float[Tensor, " b"] | None,
) -> Float[Tensor, " b"]:
    """The loss of each slot, before its weight: the denoising loss, unless the recipe has one of its own.

    Raises:
        TaskError: as `check_recipe_is_here`.
    """
    if isinstance(hyperparameters, DiffTuningHyperparameters) and _found(hyperparameters.recipe).loss:
        own: Loss = _loaded(hyperparameters.recipe, "loss")
        return own(output, batch, process, weight, hyperparameters=hyperparameters)
    return denoising_loss(output, batch, process, weight)


def check_recipe_is_here(method: Supervised | DiffTuning) -> None:
    """Refuse a recipe that this installation cannot draw by, before anything is prepared for it.

    Raises:
        TaskError: `recipe_unknown`, `recipe_unloadable`.
    """
    if isinstance(method, DiffTuning):
        for part in ("draw", "loss") if _found(method.hyperparameters.recipe).loss else ("draw",):
            _loaded(method.hyperparameters.recipe, part)


def _found(name: str) -> Recipe:
    recipe = all_recipes().get(name)
    if recipe is None:
        message = f"there is no recipe {name!r} here: known are {', '.join(all_recipes())}"
        raise TaskError("recipe_unknown", message, _FIELD)
    return recipe


@cache
def _loaded(name: str, part: str) -> Any:
    """A function of a recipe."""
    recipe = _found(name)
    try:
        return load(getattr(recipe, part))
    except Exception as error:  # whatever a stranger's module raises
        raise TaskError("recipe_unloadable", f"the recipe {name!r} cannot be loaded: {error}", _FIELD) from error
