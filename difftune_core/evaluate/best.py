"""Which evaluation of a run is the best, and when further ones are not worth waiting for.

Functions of the history alone, which travels with each checkpoint: a resumed run comes to the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.figures import find_figure
from difftune_core.config.reports.evaluation import Evaluation, Judged


def is_higher_better(metric: str) -> bool:
    """Return whether the figure rises with the quality."""
    found = find_figure(metric)
    return found is not None and found.better == "higher"


def cost(entry: Judged, metric: str) -> float | None:
    """Return the value of a metric with the sign that makes lower better; None where there is none."""
    value = entry.value(metric)
    return None if value is None else -value if is_higher_better(metric) else value


def best_evaluation(entries: Sequence[Evaluation], metric: str) -> Evaluation | None:
    """The evaluation with the best value, the earliest of equals; None where none has a value."""
    costs = _costs(entries, metric)
    return entries[min(costs, key=lambda index: costs[index])] if costs else None


def evaluations_in_vain(entries: Sequence[Evaluation], metric: str, min_delta: float) -> int:
    """Count the evaluations after the last one that improved by more than `min_delta` on the one before that did."""
    reference, count = math.inf, 0
    for value in _costs(entries, metric).values():
        count += 1
        if value < reference - min_delta:
            reference, count = value, 0
    return count


def stopped_early(entries: Sequence[Evaluation], config: EvaluationConfig) -> str | None:
    """Return why training ends with the newest evaluation, as a sentence; None where it goes on."""
    limit = config.early_stopping
    if limit is None:
        return None
    in_vain = evaluations_in_vain(entries, config.best_metric, limit.min_delta)
    best = best_evaluation(entries, config.best_metric)
    if best is None or in_vain < limit.patience:
        return None
    margin = f" by more than {limit.min_delta:g}" if limit.min_delta else ""
    return (
        f"Stopped early at step {entries[-1].step}: {config.best_metric} has not improved{margin} in "
        f"{in_vain} evaluations; the best is {best.value(config.best_metric):.6g} at step {best.step}."
    )


def _costs(entries: Sequence[Evaluation], metric: str) -> dict[int, float]:
    """Measured values by index, with the sign that makes lower better."""
    found = {index: cost(entry, metric) for index, entry in enumerate(entries)}
    return {index: value for index, value in found.items() if value is not None}
