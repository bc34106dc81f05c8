"""Tables and plots of `docs/results.md` from the saved files in `benchmarks/results`: `python -m benchmarks.results`.

A block between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced by the table of `NAME.json`, as `--save` of
`benchmarks.transfer`, `benchmarks.guidance` (`guidance.json`) or `benchmarks.chain` (`chain.json`) wrote it; its plot
lies in `docs/images/NAME.svg`. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.statistics import paired, spread

RESULTS = Path("benchmarks/results")
PAGE = Path("docs/results.md")
IMAGES = Path("docs/images")
BASELINE = "supervised"
NAMES = {
    "supervised": "supervised",
    "algorithm1": "Diff-Tuning (Algorithm 1)",
    "released": "Diff-Tuning (released code)",
    "tau_0.5": "Diff-Tuning, τ = 0.5",
    "tau_0.3": "Diff-Tuning, τ = 0.3",
    "only_reconsolidation": "only reconsolidation (ξ = 0)",
    "only_retention": "only retention (ψ = 1)",
    "distillation": "Diff-Tuning by distillation",
}
_COLUMNS = {"fid": ("FID", 2), "kid": ("KID", 2), "null_fid": ("forgetting", 1), "retention_loss": ("ret. loss", 3)}
_COLOURS = ["#20639b", "#d1495b", "#3d9970", "#e0a030", "#7a5195", "#5c6670", "#17becf", "#8c564b"]


def flat(entry: dict[str, Any]) -> dict[str, Any]:
    """An evaluation with its forgetting beside its quality."""
    return {**entry, **entry.get("forgetting", {})}


def by_method(results: dict[str, Any]) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Evaluations by method and seed, in order of steps."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for run in results["runs"]:
        entries = sorted((flat(entry) for entry in run["evaluations"]), key=lambda entry: entry["step"])
        found.setdefault(run["method"], {})[run["seed"]] = entries
    return found


def table(results: dict[str, Any]) -> list[str]:
    """The Markdown table: last evaluations, mean and standard deviation over seeds, and the paired difference."""
    methods = by_method(results)
    rows = [
        _row(NAMES[name], [seeds[s][-1] for s in sorted(seeds)], _paired(methods, name))
        for name, seeds in methods.items()
    ]
    first = [run["references"] for run in results["runs"] if run["method"] == results["runs"][0]["method"]]
    base = _row("base model, not tuned", [flat(references["base_model"]) for references in first], "")
    real = _row("real against real", [references["real_vs_real"] for references in first], "")
    heads = ["", *(title for title, _ in _COLUMNS.values()), "FID, paired difference to supervised (95 %)"]
    return [_line(heads), _line(["---"] * len(heads)), base, *rows, real]


def _row(name: str, entries: list[dict[str, Any]], difference: str) -> str:
    cells = [_cell([entry.get(figure) for entry in entries], digits) for figure, (_, digits) in _COLUMNS.items()]
    return _line([name, *cells, difference])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(values: list[float | None], digits: int) -> str:
    found = spread(values)
    return "" if found is None else f"{found['mean']:.{digits}f} ± {found['sd']:.{digits}f}"


def _paired(methods: dict[str, dict[int, list[dict[str, Any]]]], name: str) -> str:
    if name == BASELINE or BASELINE not in methods:
        return ""
    seeds = sorted(methods[name].keys() & methods[BASELINE].keys())
    found = paired([methods[name][s][-1]["fid"] - methods[BASELINE][s][-1]["fid"] for s in seeds])
    return "" if found is None else f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def guidance_table(results: dict[str, Any]) -> list[str]:
    """FID of each method (rows) under each guidance (columns)."""
    guidances = list(next(iter(results["rows"].values())))
    rows = [
        _line([NAMES[method], *(f"{row[g]['fid']['mean']:.2f} ± {row[g]['fid']['sd']:.2f}" for g in guidances)])
        for method, row in results["rows"].items()
    ]
    return [_line(["FID", *guidances]), _line(["---"] * (1 + len(guidances))), *rows]


def chain_table(results: dict[str, Any]) -> list[str]:
    """FID of each method (rows) at each share of the chain that the base model runs (columns)."""
    first = results["runs"][0]
    shares = [f"{100 * fraction:.0f} %" for fraction in first["fractions"]]
    rows = []
    for position, checkpoint in enumerate(first["checkpoints"]):
        points = zip(*(run["checkpoints"][position]["points"] for run in results["runs"]), strict=True)
        rows.append(
            _line([NAMES[checkpoint["name"]], *(_cell([point["fid"] for point in seeds], 2) for seeds in points)])
        )
    return [_line(["FID", *shares]), _line(["---"] * (1 + len(shares))), *rows]


def plot(results: dict[str, Any], path: Path) -> None:
    """FID and forgetting against the step, mean and range over seeds; beside them retention loss by t at the end."""
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "difftune"}
    )
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.3), constrained_layout=True)
    for (name, seeds), colour in zip(by_method(results).items(), _COLOURS, strict=False):
        for axis, key in zip(axes[:2], ("fid", "null_fid"), strict=True):
            _curve(axis, list(seeds.values()), key, name, colour)
        losses = [entries[-1]["retention_loss_by_t"] for entries in seeds.values()]
        _by_t(axes[2], [math.fsum(column) / len(column) for column in zip(*losses, strict=True)], color=colour)
    base = flat(results["runs"][0]["references"]["base_model"])["retention_loss_by_t"]
    _by_t(axes[2], base, color="black", linestyle="--", label="base model")
    titles = ("FID on held-out images", "forgetting", "held-out retention loss")
    for axis, title, x in zip(axes, titles, ("step", "step", "t / T"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(x)
        axis.set_yscale("log")
    axes[2].legend(frameon=False, fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _by_t(axis: Any, losses: list[float], **look: Any) -> None:
    axis.plot([(i + 0.5) / len(losses) for i in range(len(losses))], losses, marker="o", ms=3, **look)


def _curve(axis: Any, seeds: list[list[dict[str, Any]]], key: str, name: str, colour: str) -> None:
    columns = list(zip(*seeds, strict=True))
    steps = [column[0]["step"] for column in columns]
    values = [[entry[key] for entry in column] for column in columns]
    axis.plot(steps, [sum(v) / len(v) for v in values], color=colour, marker="o", ms=3, label=NAMES[name])
    axis.fill_between(steps, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.18, lw=0)


_TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {"guidance": guidance_table, "chain": chain_table}


def main() -> None:
    """Renew every block of the page that has a results file, and its plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    for path in sorted(RESULTS.glob("*.json")):
        begin, end = f"<!-- begin {path.stem} -->", f"<!-- end {path.stem} -->"
        if begin not in page:
            continue
        results, image = json.loads(path.read_text(encoding="utf-8")), IMAGES / f"{path.stem}.svg"
        lines = _TABLES.get(path.stem, table)(results)
        if path.stem not in _TABLES:
            plot(results, image)
        if image.exists():
            lines += ["", f"![{path.stem}](images/{image.name})"]
        block = "\n".join([begin, "", *lines, "", end])
        page = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, text=block: text, page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
