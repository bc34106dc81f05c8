"""Which time, which source and which loss each slot of a batch gets: all that distinguishes one method from another.

How a method or a recipe of Diff-Tuning draws is a file of its own, which `config.methods` or `config.recipes` names.

The draws of a step are a function of (seed, step). Two methods with the same seed see the same images and noise slot by
slot, and the same times where both draw them uniformly; they differ in which slots the retention set takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Real
from torch import Tensor

from difftune_core.config.methods.method import Method, Objective
from difftune_core.config.outside import load
from difftune_core.diffusion.process import Process
from difftune_core.hooks import TaskError
from difftune_core.objectives.denoising import Loss, NoisedBatch, denoising_loss


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
    """The draws of a method or a recipe."""

    def __call__(self, hyperparameters: Any, *, seed: int, step: int, process: Process) -> Draws:
        """Draw for one optimizer step, a function of its arguments; `hyperparameters` are the method's."""


def draw(method: Method, *, seed: int, step: int, process: Process) -> Draws:
    """The draws of one optimizer step.

    Raises:
        TaskError: as `check_is_here`.
    """
    drawn: Draw = _loaded(method.objective, "draw")
    return drawn(method.hyperparameters, seed=seed, step=step, process=process)


def losses(
    method: Method,
    output: Float[Tensor, "b out h w"],
    batch: NoisedBatch,
    process: Process,
    weight: Float[Tensor, " b"] | None,
) -> Float[Tensor, " b"]:
    """The loss of each slot, before its weight: the denoising loss, unless the objective has one of its own.

    Raises:
        TaskError: as `check_is_here`.
    """
    objective = method.objective
    if not objective.loss:
        return denoising_loss(output, batch, process, weight)
    own: Loss = _loaded(objective, "loss")
    return own(output, batch, process, weight, hyperparameters=method.hyperparameters)


def check_is_here(method: Method) -> None:
    """Refuse what this installation cannot draw by, before anything is prepared for it.

    Raises:
        TaskError: `method_unknown`, `method_unloadable`; of a recipe `recipe_unknown`, `recipe_unloadable`.
    """
    objective = method.objective
    for part in ("draw", "loss") if objective.loss else ("draw",):
        _loaded(objective, part)


@cache
def _loaded(objective: Objective, part: str) -> Any:
    """A function of an objective."""
    try:
        return load(getattr(objective, part))
    except Exception as error:  # whatever a stranger's module raises
        message = f"the {objective.noun} {objective.name!r} cannot be loaded: {error}"
        raise TaskError(f"{objective.noun}_unloadable", message, objective.field) from error
