"""Runs side by side: forest plots with intervals, curves over each other, and a sentence on what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from api.web.curves import Points
from difftune_core.config.figures import all_figures
from difftune_core.config.reports.comparison import ComparisonReport, FigureTold, PairTold
from difftune_core.config.reports.run import RunReport
from difftune_core.drawing.charts import Chart, Series, line_chart
from difftune_core.drawing.forest import Estimate, forest_plot
from difftune_core.drawing.numbers import number

_Z = 1.96  # 95 % of a normal distribution
_STYLES = 6
_SHOWN = ("fid", "kid", "held_out_loss", "null_fid", "ssim", "mse", "clip_score")
_CURVES = ("train_loss", "target_loss", "eval_held_out_loss", "eval_fid", "eval_kid")
_TITLES = {"train_loss": "Training loss", "target_loss": "Loss on your images"}
_ENOUGH = 0.05  # the custom


class Run(NamedTuple):
    """A job to be compared."""

    name: str
    points: Points
    report: RunReport | None


def plots_of_runs(runs: Sequence[Run]) -> list[Chart]:
    """A forest plot for each figure that a report has, with the base model below."""
    found = []
    for figure in (one for one in all_figures() if one.key in _SHOWN):
        rows = []
        for place, run in enumerate(runs):
            result = run.report.result if run.report else None
            if result is not None and (value := result.value(figure.key)) is not None:
                rows.append(_estimate(run.name, value, result.error(figure.key), f"s{place % _STYLES}"))
        bases = [run.report.reference("base_model") for run in runs if run.report]
        known = [(base, value) for base in bases if (value := base.value(figure.key)) is not None]
        if rows and known:
            base, value = known[0]
            rows.append(_estimate("base model", value, base.error(figure.key), "s3"))
        note = "higher is better" if figure.better == "higher" else "lower is better"
        if drawn := forest_plot(figure.label, rows, note=note):
            found.append(drawn)
    return found


def curves_of_runs(runs: Sequence[Run]) -> list[Chart]:
    """The curves that at least one run has, all runs in one chart each."""
    labels = {f"eval_{figure.key}": figure.label for figure in all_figures()} | _TITLES
    found = []
    for name in _CURVES:
        lines = [Series(run.name, run.points[name]) for run in runs if run.points.get(name)]
        if lines:
            found.append(line_chart(labels.get(name, name), lines, x_label="step"))
    return found


def plots_of(report: ComparisonReport) -> list[Chart]:
    """Forest plots of a comparison's figures: each method's mean over seeds, and the paired differences."""
    found: list[Chart] = []
    for key, figure in report.figures.items():
        if key not in _SHOWN:
            continue
        rows = [
            Estimate(name, spread.mean, spread.low, spread.high, f"s{place % _STYLES}")
            for place, name in enumerate(report.names)
            if (spread := figure.methods.get(name)) is not None and spread.mean is not None
        ]
        base = report.references.get("base_model", {}).get(key)
        if base is not None and base.mean is not None:
            rows.append(Estimate("base model", base.mean, None, None, "s3"))
        better = "higher is better" if figure.lower_is_better is False else "lower is better"
        note = f"means over seeds, from the lowest to the highest; {better}"
        drawn = forest_plot(figure.label, rows, note=note, ends="range")
        pairs = [
            Estimate(f"{pair.second} − {pair.first}", pair.difference, *(pair.interval or (None, None)))
            for pair in figure.pairs
        ]
        differences = forest_plot(
            f"Difference in {figure.label}", pairs, note="95 % interval over paired seeds", zero=True
        )
        found += [chart for chart in (drawn, differences) if chart is not None]
    return found


def curves_of(report: ComparisonReport) -> list[Chart]:
    """The figures over steps, a line for each method."""
    found = []
    for key, by_method in report.curves.items():
        if key in _SHOWN and key in report.figures:
            lines = [
                Series(name, [(point.step, point.mean) for point in points if point.mean is not None])
                for name, points in by_method.items()
            ]
            found.append(line_chart(report.figures[key].label, [one for one in lines if one.points], x_label="step"))
    return found


def sentences(report: ComparisonReport) -> list[str]:
    """Return what the comparison shows and what it does not, of its main figures."""
    told = [_told(figure, pair) for key, figure in report.figures.items() if key in _SHOWN for pair in figure.pairs]
    if told and all(pair.n < 2 for figure in report.figures.values() for pair in figure.pairs):  # noqa: PLR2004  # of two
        told.insert(0, "One seed: the differences below are those of two runs, and no test.")
    return told


def _told(figure: FigureTold, pair: PairTold) -> str:
    if figure.lower_is_better is None:
        return f"{figure.label}: {pair.second} differs from {pair.first} by {number(pair.difference)}."
    side = "better" if (pair.difference < 0) == figure.lower_is_better else "worse"
    if pair.interval is None:
        return (
            f"{figure.label}: {pair.second} is {side} than {pair.first} by {number(abs(pair.difference))}; no interval."
        )
    low, high = pair.interval
    ends = f"95 % interval of the difference {number(low)} to {number(high)}"
    if low <= 0 <= high:
        return f"{figure.label}: no difference between {pair.second} and {pair.first} is shown ({ends})."
    weak = ""
    if pair.smallest_p is not None and pair.smallest_p > _ENOUGH:
        weak = f" The exact test cannot confirm it: {pair.n} seeds reach p = {number(pair.smallest_p, 2)} at best."
    return f"{figure.label}: {pair.second} is {side} than {pair.first} ({ends}).{weak}"


def _estimate(name: str, value: float, error: float | None, style: str) -> Estimate:
    if error is None:
        return Estimate(name, value, style=style)
    return Estimate(name, value, value - _Z * error, value + _Z * error, style)


def names_of(jobs: Sequence[Mapping[str, object]]) -> list[str]:
    """A name for each job that no other of them has."""
    called = [str(job["suffix"] or job["id"]) for job in jobs]
    return [
        name if called.count(name) == 1 else f"{name} {str(job['id'])[-6:]}"
        for name, job in zip(called, jobs, strict=True)
    ]
