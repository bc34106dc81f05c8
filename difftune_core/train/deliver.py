"""The model that a run hands over: the average of its last step, or that of its best checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from difftune_core.checkpoint.manifest import checkpoint_name, whole
from difftune_core.evaluate.best import best_evaluation
from difftune_core.hooks import TaskError
from difftune_core.models.dit import DiT
from difftune_core.models.registry import load_dit, read_dit_config
from difftune_core.train.loop import Loop


@dataclass(frozen=True)
class Delivered:
    """A judged model."""

    step: int
    model: DiT
    entry: dict[str, Any]
    """Its evaluation."""


def delivered(loop: Loop) -> Delivered:
    """What `evaluation.deliver` says of a run that has ended.

    Raises:
        TaskError: `checkpoint_missing`, the best checkpoint is not on this disk or damaged.
    """
    state, settings = loop.state, loop.config.evaluation
    best = best_evaluation(state.history.evaluations, settings.best_metric)
    if settings.deliver == "last" or best is None or best["step"] == state.step:
        return Delivered(state.step, state.average, state.history.evaluations[-1])
    folder = loop.checkpoints / checkpoint_name(best["step"])
    if whole(folder) is None:
        raise TaskError("checkpoint_missing", f"{folder.name}, the best checkpoint, is not there or damaged")
    model = load_dit(folder, read_dit_config(folder), state.average.pos_embed.device)
    return Delivered(best["step"], model.eval().requires_grad_(False), best)  # noqa: FBT003  # no name in the library
