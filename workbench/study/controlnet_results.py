"""The ControlNet block of `docs/results.md`, from what `python -m workbench.study.controlnet --save` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from difftune_core.config.conditions import all_conditions
from workbench.study.plots import plot_agreement
from workbench.study.statistics import spread
from workbench.study.tables import NOT_MEASURED, cell, drawn, line

RESULTS = Path("workbench/study/results/controlnet.json")
METRICS = {name: condition.figures[0] for name, condition in all_conditions().items()}
_TITLES = {"supervised": "supervised", "diff_tuning": "Diff-Tuning (Algorithm 1)", "released": "released"}
_SAVED = {"convergence": "steps saved to sudden convergence", "equal_scores": "steps saved to equal scores"}


def controlnet_block(results: dict[str, Any], image: Path) -> list[str]:
    """The table of conditions and methods, what is saved over all of them, and the plot of the curves."""
    plot_agreement(results["runs"], METRICS, image)
    return [*_table(results["rows"]), "", *_overall(results["rows"]), "", drawn(image)]


def _table(rows: dict[str, Any]) -> list[str]:
    heads = ["condition", "method", "agreement", "FID", "forgetting", "drift", "converged suddenly", *_SAVED.values()]
    lines = [line(heads), line(["---"] * len(heads))]
    for condition, methods in rows.items():
        metric, reached = METRICS[condition], methods["gain"]
        for name, figures in methods.items():
            if name == "gain":
                continue
            digits = 4 if metric == "mse" else 3
            cells = [condition, _TITLES[name], f"{metric.replace('_', ' ')} {cell(figures[metric], digits)}"]
            cells += [cell(figures["fid"], 1), cell(figures["forgetting"], 1), cell(figures["drift"], 4)]
            cells += [_steps(figures), *(_share(reached.get(name, {}).get(kind)) for kind in _SAVED)]
            lines.append(line(cells))
    return lines


def _overall(rows: dict[str, Any]) -> list[str]:
    """Mean and spread of what is saved, over the conditions' means."""
    found = []
    for kind, title in _SAVED.items():
        means = [gain["mean"] for methods in rows.values() if (gain := methods["gain"]["diff_tuning"][kind])]
        pairs = sum(gain["n"] for methods in rows.values() if (gain := methods["gain"]["diff_tuning"][kind]))
        total = sum(len(methods["supervised"]["convergence_steps"]) for methods in rows.values())
        said = _share(spread(means)) if means else "none"
        found.append(
            f"- Diff-Tuning, {title}, mean ± standard deviation over conditions: {said}; {pairs} of {total} pairs."
        )
    return found


def _steps(figures: dict[str, Any]) -> str:
    steps = figures["convergence_steps"]
    found = [str(step) for step in steps if step]
    return f"{len(found)} of {len(steps)}" + (f" ({', '.join(found)})" if found else "")


def _share(figure: dict[str, float] | None) -> str:
    if figure is None:
        return NOT_MEASURED
    spread_of_several = f" ± {100 * figure['sd']:.0f}" if figure["n"] > 1 else ""
    return f"{100 * figure['mean']:+.0f} %{spread_of_several} (n = {figure['n']})"
