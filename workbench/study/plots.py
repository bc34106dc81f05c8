"""Plots of `docs/results.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.study.runs import METHODS

Run = dict[str, Any]
_COLOURS = (
    "#20639b",
    "#3d9970",
    "#d1495b",
    "#e0a030",
    "#7a5195",
    "#5c6670",
    "#17becf",
    "#8c564b",
    "#b8860b",
    "#444444",
    "#e377c2",
)


def plot_core(rows: dict[str, dict[int, Run]], path: Path) -> None:
    """FID against the step and against target images seen, forgetting against the step: mean and range over seeds."""
    figure, axes = _figure(3, 11)
    for (name, seeds), colour in zip(rows.items(), _cycle(len(rows)), strict=True):
        history = [list(column) for column in zip(*(run["evaluations"] for run in seeds.values()), strict=True)]
        for axis, (x, y) in zip(axes, (("step", "fid"), ("target_images", "fid"), ("step", "null_fid")), strict=True):
            _curve(axis, [(_mean(column, x), [entry[y] for entry in column]) for column in history], name, colour)
    titles = ("FID on held-out images", "the same by target images seen", "forgetting")
    for axis, title, label in zip(axes, titles, ("step", "target images seen", "step"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label)
        axis.set_yscale("log")
        _plain_ticks(axis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    _save(figure, path)


def plot_sweep(title: str, rows: dict[str, dict[float, list[Run]]], path: Path) -> None:
    """Final FID against one factor, mean and range over seeds."""
    figure, axes = _figure(1, 5.5)
    for (method, values), colour in zip(rows.items(), _cycle(len(rows)), strict=True):
        points = [
            (value, [run["evaluations"][-1]["fid"] for run in runs]) for value, runs in sorted(values.items()) if runs
        ]
        if points:
            _curve(axes[0], points, METHODS[method][0], colour)
    axes[0].set_xlabel(title)
    axes[0].set_ylabel("FID")
    if min(value for values in rows.values() for value in values) > 1:
        axes[0].set_xscale("log")
    axes[0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def plot_chain(results: list[Run], path: Path) -> None:
    """FID, and its change to the tuned model alone, against the share handed over: mean and range over seeds."""
    figure, axes = _figure(2, 8.5)
    for checkpoints, colour in zip(zip(*(r["checkpoints"] for r in results), strict=True), _COLOURS, strict=False):
        columns = [list(column) for column in zip(*(checkpoint["points"] for checkpoint in checkpoints), strict=True)]
        for axis, key in zip(axes, ("fid", "fid_change"), strict=True):
            points = [(100 * column[0]["fraction"], [point.get(key, 0.0) for point in column]) for column in columns]
            _curve(axis, points, METHODS[checkpoints[0]["name"]][0], colour)
    axes[1].axhline(0, color="black", lw=0.8, ls="--")
    for axis, title in zip(axes, ("FID on held-out images", "change to the tuned model alone"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("% of the steps, next to the data, by the base model")
    axes[0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def plot_agreement(runs: list[Run], metrics: dict[Any, str], path: Path) -> None:
    """Agreement with the control against the step, a panel a condition: mean and range over seeds."""
    conditions = list(dict.fromkeys(run["condition"] for run in runs))
    figure, axes = _figure(len(conditions), 3 * len(conditions))
    for axis, condition in zip(axes, conditions, strict=True):
        methods = list(dict.fromkeys(run["method"] for run in runs))
        for method, colour in zip(methods, _cycle(len(methods)), strict=True):
            of_seeds = [r["evaluations"] for r in runs if (r["condition"], r["method"]) == (condition, method)]
            columns = [list(column) for column in zip(*of_seeds, strict=True)]
            metric = metrics[condition]
            _curve(axis, [(column[0]["step"], [e[metric] for e in column]) for column in columns], method, colour)
        axis.set_title(f"{condition}: {metrics[condition].replace('_', ' ')}", fontsize=10)
        axis.set_xlabel("step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    _save(figure, path)


def _figure(panels: int, width: float) -> tuple[Any, list[Any]]:
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "difftune"}
    )
    figure, axes = plt.subplots(1, panels, figsize=(width, 3.5), constrained_layout=True, squeeze=False)
    return figure, list(axes[0])


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter(NullFormatter())


def _cycle(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _mean(column: list[Run], key: str) -> float:
    return float(sum(entry[key] for entry in column) / len(column))


def _curve(axis: Any, points: list[tuple[float, list[float]]], name: str, colour: str) -> None:
    places, values = [x for x, _ in points], [y for _, y in points]
    axis.plot(places, [sum(v) / len(v) for v in values], color=colour, marker="o", ms=3, label=name)
    axis.fill_between(places, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.18, lw=0)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=160)
    plt.close(figure)
