"""Steps of sudden convergence of ControlNets, run by run, and what a method saves of another's steps: to convergence,
and on the way to equal scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from difftune_core.config.conditions import all_conditions
from difftune_core.config.reports.comparison import ComparisonReport, SavedTold
from difftune_core.config.reports.evaluation import Convergence
from difftune_core.config.reports.run import RunReport
from difftune_core.drawing.numbers import number
from difftune_core.evaluate import equal_scores
from difftune_core.evaluate.best import is_higher_better
from difftune_core.evaluate.comparison.figures import Runs
from difftune_core.evaluate.comparison.statistics import spread

_REASONS = {
    "too_few_evaluations": "too few evaluations",
    "not_significant": "no jump beyond noise",
    "gradual": "a rise, no jump",
}


@dataclass(frozen=True)
class ConvergenceRow:
    """A method's steps, a cell for each seed; `css` is its colour."""

    name: str
    css: str
    found: str
    cells: list[str]


@dataclass(frozen=True)
class ConvergenceTable:
    """What the page shows of sudden convergence."""

    seeds: list[int]
    rows: list[ConvergenceRow]
    saved: list[str]
    """A sentence for each pair of methods."""


def convergences(runs: Runs) -> dict[str, dict[int, Convergence]]:
    """Return what the rule found, by method and seed; empty for models that draw classes."""
    return {
        method: found
        for method in runs.methods
        if (found := {s: c for s, run in runs.of(method).items() if (c := run.report.convergence) is not None})
    }


def steps_saved(runs: Runs) -> list[dict[str, Any]]:
    """The share of the first's steps that the second saves, by pair of methods, over seeds where both converged.

    As the paper states its gain for ControlNets. Below 0 the second converges later. A pair without such a seed is left
    out.
    """
    return _by_pair(runs, saved_to_convergence)


def steps_saved_to_equal_scores(runs: Runs) -> list[dict[str, Any]]:
    """The share of steps saved, as `steps_saved` gives it, over all scores that both runs of a seed reach
    (`difftune_core.evaluate.equal_scores`).

    It needs no sudden convergence. Pairs without a common score, or with a run that does not rise, are left out.
    """
    return _by_pair(runs, saved_to_equal_scores)


def saved_to_convergence(plain: RunReport, other: RunReport) -> float | None:
    """Share of the steps to sudden convergence that one run saves; None where one of them did not converge."""
    if plain.convergence is None or other.convergence is None:
        return None
    ours, theirs = other.convergence.step, plain.convergence.step
    return 1 - ours / theirs if ours is not None and theirs else None


def saved_to_equal_scores(plain: RunReport, other: RunReport) -> float | None:
    """Share of the steps that one run saves on the way to equal agreement with the controls, if it can be said."""
    condition = all_conditions().get(plain.job["control"]["condition"])
    if condition is None:  # brought by what is not installed any more
        return None
    metric = condition.figures[0]
    theirs, ours = (_scores(report, metric) for report in (plain, other))
    steps = sorted(theirs.keys() & ours.keys())
    if not steps:
        return None
    found = ([scores[step] for step in steps] for scores in (theirs, ours))
    return equal_scores.steps_saved(steps, *found, higher_is_better=is_higher_better(metric))


def _scores(report: RunReport, metric: str) -> dict[int, float]:
    return {entry.step: value for entry in report.evaluations if (value := entry.value(metric)) is not None}


def _by_pair(runs: Runs, saved_by: Callable[[RunReport, RunReport], float | None]) -> list[dict[str, Any]]:
    shares = []
    for first, second in runs.pairs() if convergences(runs) else []:
        pairs = [(runs.of(first)[seed].report, runs.of(second)[seed].report) for seed in runs.common(first, second)]
        saved = [share for pair in pairs if (share := saved_by(*pair)) is not None]
        if saved:
            shares.append({"first": first, "second": second, "num_pairs": len(pairs), **asdict(spread(saved))})
    return shares


def convergence_table(comparison: ComparisonReport) -> ConvergenceTable | None:
    """The table of a comparison; None for models that draw classes."""
    by_method = comparison.convergence
    if not by_method:
        return None
    seeds = [seed for seed in comparison.seeds if any(str(seed) in found for found in by_method.values())]
    rows = []
    for place, method in enumerate(comparison.names):
        found = by_method.get(method, {})
        count = sum(each.step is not None for each in found.values())
        cells = [_cell(found.get(str(seed))) for seed in seeds]
        rows.append(ConvergenceRow(method, f"s{place}", f"{count} of {len(found)}", cells))
    saved = [f"{_sentence(pair)}, those in which both converged." for pair in comparison.steps_saved]
    equal = [f"To equal scores, {_sentence(pair)}." for pair in comparison.steps_saved_to_equal_scores]
    return ConvergenceTable(seeds, rows, [*saved, *equal])


def _cell(found: Convergence | None) -> str:
    if found is None:
        return number(None)
    return number(found.step) if found.step is not None else _REASONS[found.reason]


def _sentence(pair: SavedTold) -> str:
    """Return how many steps the second method of a pair saves, and of how many pairs that is known."""
    spread_of = "" if pair.sd is None else f" \u00b1 {pair.sd:.0%} (standard deviation over seeds)"
    counted = f"{pair.n} of {pair.num_pairs} pairs of runs"
    share = pair.mean or 0.0
    way = "fewer" if share >= 0 else "more"
    return f"{pair.second} takes {abs(share):.0%}{spread_of} {way} steps than {pair.first}: {counted}"
