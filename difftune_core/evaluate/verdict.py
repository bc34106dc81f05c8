"""Whether what a run delivers is worse than what it had before: an earlier checkpoint, or the base model.

A difference counts where it is beyond the error that both figures have; of several candidates the best looks better by
chance too, so the level of 95 % is that of all comparisons of a run together (Bonferroni). Both figures are against the
same held-out images and from the same noise: their true difference has a smaller error than the one taken here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from difftune_core.config.figures import find_figure
from difftune_core.config.reports.evaluation import Evaluation, Judged
from difftune_core.drawing.numbers import number
from difftune_core.evaluate.best import cost
from difftune_core.evaluate.report.entries import title_of

CODE = "delivered_worse"
_LEVEL = 0.95


@dataclass(frozen=True)
class Shortcoming:
    """What is better than the delivered checkpoint by a figure."""

    metric: str
    step: int
    value: float
    other_step: int
    """0 for the base model."""
    other_value: float

    @property
    def message(self) -> str:
        """The sentence for the reader."""
        title = title_of(self.metric)
        other = f"step {number(self.other_step)}" if self.other_step else "the base model, which was not tuned"
        return (
            f"The delivered checkpoint (step {number(self.step)}, {title} {number(self.value)}) "
            f"is worse than {other} ({title} {number(self.other_value)})."
        )

    def told(self) -> dict[str, Any]:
        """Return the shortcoming as data, with its sentence."""
        return {"code": CODE, "message": self.message, **asdict(self)}


def shortcomings(entries: Sequence[Evaluation], delivered: Evaluation, base: Judged, metric: str) -> list[Shortcoming]:
    """Find what is better than `delivered` beyond the error: the best other evaluation by `metric`, and the base model.

    Args:
        entries: all evaluations of the run.
        delivered: the one of what is handed over.
        base: the base model's figures, as a reference.
        metric: `evaluation.best_metric`. Where that is one of forgetting the base model is compared by FID.
    """
    candidates = [entry for entry in entries if entry.step != delivered.step]
    better = [entry for entry in candidates if _is_better(entry, delivered, metric, comparisons=len(candidates))]
    found = [min(better, key=lambda entry: cost(entry, metric) or 0.0)] if better else []
    told = [_shortcoming(delivered, entry, metric, step=entry.step) for entry in found]
    of_images = "fid" if _is_of_forgetting(metric) else metric
    if _is_better(base, delivered, of_images, comparisons=1):
        told.append(_shortcoming(delivered, base, of_images, step=0))
    return told


def _shortcoming(delivered: Evaluation, other: Judged, metric: str, *, step: int) -> Shortcoming:
    value, better = delivered.value(metric), other.value(metric)
    assert value is not None, "compared"
    assert better is not None, "compared"
    return Shortcoming(metric, delivered.step, value, step, better)


def _is_better(entry: Judged, than: Judged, metric: str, *, comparisons: int) -> bool:
    """Return whether the difference is beyond the error; not where a figure has none that should have one."""
    own, reference = cost(entry, metric), cost(than, metric)
    if own is None or reference is None:
        return False
    error = _error(entry, than, metric)
    if error is None:
        return False
    factor = NormalDist().inv_cdf(1 - (1 - _LEVEL) / 2 / max(1, comparisons))
    return reference - own > factor * error


def _error(first: Judged, second: Judged, metric: str) -> float | None:
    """Standard error of a difference; 0 of figures that are no samples, None where it is not known."""
    name = f"{metric}_se"
    if not first.has_own(name) and not second.has_own(name):
        return 0.0
    own, other = first.error(metric), second.error(metric)
    return None if own is None or other is None else math.hypot(own, other)


def _is_of_forgetting(metric: str) -> bool:
    """Return whether the base model is better by definition: it has forgotten nothing."""
    found = find_figure(metric)
    return found is not None and found.group == "forgetting"
