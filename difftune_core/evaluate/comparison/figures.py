"""Makes figures over seeds of the reports of runs: by method, by pair of methods, along the training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from difftune_core.config.figures import Figure, all_figures
from difftune_core.config.reports.evaluation import Judged
from difftune_core.drawing.numbers import Number
from difftune_core.evaluate.comparison.runs import FinishedRun
from difftune_core.evaluate.comparison.statistics import holm, paired, spread

EQUAL_WITHIN = 0.1
"""Numbers of target images that differ by less than this share count as equal."""


class Runs:
    """Finished runs by method and seed."""

    def __init__(self, methods: Iterable[str], runs: Iterable[FinishedRun]) -> None:
        """Methods without a finished run are left out."""
        self._found: dict[str, dict[int, FinishedRun]] = {method: {} for method in methods}
        for run in runs:
            self._found[run.method][run.seed] = run
        self.methods = [method for method, by_seed in self._found.items() if by_seed]

    def of(self, method: str) -> dict[int, FinishedRun]:
        """The method's runs by seed."""
        return dict(sorted(self._found[method].items()))

    def common(self, first: str, second: str) -> list[int]:
        """Seeds that both methods have."""
        return [seed for seed in self.of(first) if seed in self._found[second]]

    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of methods, the earlier one first."""
        return list(combinations(self.methods, 2))


def at_equal_steps(runs: Runs, figure: Figure) -> dict[str, Any]:
    """The figure at the end of training: spreads by method, tests by pair.

    The runs have equal budgets, so their ends are at equal steps.
    """
    methods = {}
    for method in runs.methods:
        values = {seed: value for seed, run in runs.of(method).items() if (value := run.result.at(figure)) is not None}
        if values:
            methods[method] = {**asdict(spread(list(values.values()))), "values": values}
    pairs = [
        compared
        for first, second in runs.pairs()
        if (compared := _compared(runs, figure, (first, second), lambda run: run.result)) is not None
    ]
    return {"methods": methods, "pairs": _corrected(pairs)}


def at_equal_images(runs: Runs, figure: Figure) -> list[dict[str, Any]]:
    """The figure by pair where both methods have seen as many target images; see `equal_images`."""
    pairs = []
    for pair in runs.pairs():
        match = equal_images(runs, *pair)
        if match is None or match.steps is None:
            continue
        steps = dict(zip(pair, match.steps, strict=True))
        compared = _compared(runs, figure, pair, partial(_at, steps=steps))
        if compared is not None:
            pairs.append({**compared, "steps": list(match.steps), "target_images": list(match.images)})
    return _corrected(pairs)


@dataclass(frozen=True)
class EqualImages:
    """The steps at which two methods have seen as many target images."""

    images: tuple[float, float]
    """Mean count over the common seeds at that place, of the first and the second method."""
    steps: tuple[int, int] | None
    """Steps of both; None where no evaluation is near enough, and `images` are those of the nearest."""


def equal_images(runs: Runs, first: str, second: str) -> EqualImages | None:
    """The last evaluation of the method that saw fewer target images, and the nearest one of the other.

    None where the reports do not count target images, or the two have seen as many at their ends.
    """
    seeds = runs.common(first, second)
    seen = [_images_by_step([runs.of(method)[seed] for seed in seeds]) for method in (first, second)]
    if not all(seen):
        return None
    ends = [by_step[max(by_step)] for by_step in seen]
    if max(ends) - min(ends) <= 0.01 * max(ends):
        return None
    budget = min(ends)
    steps = [min(by_step, key=lambda step: abs(by_step[step] - budget)) for by_step in seen]
    images = seen[0][steps[0]], seen[1][steps[1]]
    near = max(images) - min(images) <= EQUAL_WITHIN * max(images)
    return EqualImages(images, (steps[0], steps[1]) if near else None)


def along(runs: Runs, figure: Figure) -> dict[str, list[dict[str, Any]]]:
    """The figure at each evaluation, by method: step, target images, mean, sd, range and number of seeds."""
    curves = {}
    for method in runs.methods:
        found: dict[int, list[tuple[float, Number | None]]] = defaultdict(list)
        for run in runs.of(method).values():
            for entry in run.report.evaluations:
                value = entry.at(figure)
                if value is not None:
                    found[entry.step].append((value, entry.target_images))
        curves[method] = [
            {"step": step, "target_images": _mean([i for _, i in values]), **asdict(spread([v for v, _ in values]))}
            for step, values in sorted(found.items())
        ]
    return curves


def training_curve(runs: Runs, name: str) -> dict[str, list[list[Number]]]:
    """A logged series by method, as the mean over those seeds that have the step."""
    curves: dict[str, list[list[Number]]] = {}
    for method in runs.methods:
        found: dict[Number, list[Number]] = defaultdict(list)
        for run in runs.of(method).values():
            for step, value in run.report.curves.get(name, []):
                if value is not None:
                    found[step].append(value)
        if found:
            curves[method] = [[step, sum(values) / len(values)] for step, values in sorted(found.items())]
    return curves


def retention_by_t(runs: Runs) -> dict[str, list[dict[str, Any]]]:
    """Loss on the base model's images in equal bins of t, the data's end first, by method; `base_model` beside them."""
    found = {
        method: [run.result.forgetting.retention_loss_by_t for run in runs.of(method).values()]
        for method in runs.methods
    }
    base = [run.report.reference("base_model") for run in runs.of(runs.methods[0]).values()]
    found["base_model"] = [entry.forgetting.retention_loss_by_t for entry in base]
    whole = {name: [series for series in lists if series] for name, lists in found.items()}
    return {
        name: [asdict(spread(values)) for values in zip(*lists, strict=True)] for name, lists in whole.items() if lists
    }


def references(runs: Runs) -> dict[str, dict[str, Any]]:
    """Return what a figure is read beside (base model, real against real, ...): spreads over seeds."""
    of_seed: dict[int, dict[str, Judged]] = {}
    for method in runs.methods:
        for seed, run in runs.of(method).items():
            of_seed.setdefault(seed, run.report.references)
    found: dict[str, dict[str, Any]] = {}
    for name in {name: None for entry in of_seed.values() for name in entry}:
        for figure in all_figures():
            values = [entry[name].at(figure) for entry in of_seed.values() if name in entry]
            if known := [value for value in values if value is not None]:
                found.setdefault(name, {})[figure.key] = asdict(spread(known))
    return found


def _compared(
    runs: Runs, figure: Figure, pair: tuple[str, str], at: Callable[[FinishedRun], Judged]
) -> dict[str, Any] | None:
    """`second - first` where both have the figure, None where no seed has."""
    first, second = pair
    found: list[tuple[int, float, float]] = []
    for seed in runs.common(first, second):
        one, other = (at(runs.of(method)[seed]).at(figure) for method in pair)
        if one is not None and other is not None:
            found.append((seed, one, other))
    if not found:
        return None
    result = paired(np.array([one for _, one, _ in found]), np.array([other for _, _, other in found]))
    return {"first": first, "second": second, "seeds": [seed for seed, _, _ in found], **asdict(result)}


def _corrected(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Correct p values by Holm over these pairs."""
    for name in ("p_t", "p_sign_flip"):
        for pair, p in zip(pairs, holm([pair[name] for pair in pairs]), strict=True):
            pair[f"{name}_holm"] = p
    return pairs


def _at(run: FinishedRun, *, steps: dict[str, int]) -> Judged:
    """The run's evaluation at its method's step."""
    return next((entry for entry in run.report.evaluations if entry.step == steps[run.method]), Judged())


def _images_by_step(runs: list[FinishedRun]) -> dict[int, float]:
    """Mean count of target images at each step that all runs were evaluated at."""
    counts = [
        {entry.step: float(entry.target_images) for entry in run.report.evaluations if entry.target_images}
        for run in runs
    ]
    shared = set.intersection(*map(set, counts)) if counts else set()
    return {step: sum(found[step] for found in counts) / len(counts) for step in shared}


def _mean(values: list[Number | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
