"""The model that a run hands over: the average of its last step, or that of its best checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from difftune_core.checkpoint.manifest import checkpoint_name, whole
from difftune_core.checkpoint.state import Model
from difftune_core.config.reports.evaluation import Judged
from difftune_core.evaluate.best import best_evaluation
from difftune_core.evaluate.verdict import shortcomings
from difftune_core.families.base import Delivered
from difftune_core.hooks import LogEvent, TaskError
from difftune_core.train.loop import Loop


def tell_shortcomings(
    loop: Loop[Model], result: Delivered[Model], references: Mapping[str, Judged]
) -> list[dict[str, Any]]:
    """Say what is better than what is delivered; the same for the report."""
    metric, entries = loop.config.evaluation.best_metric, loop.state.history.evaluations
    found = shortcomings(entries, result.entry, references["base_model"], metric)
    for one in found:
        told = one.told()
        loop.hooks.emit(LogEvent(level="warn", message=told.pop("message"), data=told))
    return [one.told() for one in found]


def delivered(loop: Loop[Model], load: Callable[[Path], Model]) -> Delivered[Model]:
    """Return what `evaluation.deliver` says of a run that has ended; `load` opens a checkpoint's folder.

    Raises:
        TaskError: `checkpoint_missing`, the best checkpoint is not on this disk or damaged.
    """
    state, settings = loop.state, loop.config.evaluation
    best = best_evaluation(state.history.evaluations, settings.best_metric)
    if settings.deliver == "last" or best is None or best.step == state.step:
        return Delivered(state.step, state.average, state.history.evaluations[-1])
    folder = loop.checkpoints / checkpoint_name(best.step)
    if whole(folder) is None:
        raise TaskError("checkpoint_missing", f"{folder.name}, the best checkpoint, is not there or damaged")
    return Delivered(best.step, load(folder).eval().requires_grad_(False), best)  # noqa: FBT003  # no name in the library
