"""From the comparison's dict to what its page shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from difftune_core.config.figures import Figure, all_figures
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.config.reports.run import Recipe
from difftune_core.evaluate.comparison.convergence import convergence_table
from difftune_core.evaluate.comparison.strips import Line, Strip, place_strip
from difftune_core.evaluate.comparison.tables import pair_groups, settings
from difftune_core.evaluate.report.charts import Chart, Rule, Series, line_chart
from difftune_core.evaluate.report.entries import REFERENCES
from difftune_core.evaluate.report.heading import heading
from difftune_core.evaluate.report.numbers import Number, number, with_error
from difftune_core.evaluate.report.view import how_made

Comparison = dict[str, Any]
_NAMED = 3  # methods in the title
_RULES = {"base_model": "base model", "autoencoder_floor": "autoencoder alone"}


@dataclass(frozen=True)
class Row:
    """A line of a table of figures; `css` is the method's colour."""

    name: str
    css: str
    seeds: str
    cells: list[str]


def context(comparison: Comparison) -> dict[str, Any]:
    """Everything that the template needs but the images."""
    figures = comparison["figures"]
    extractor = str(comparison["recipe"].get("feature_extractor", "unknown"))
    return {
        "heading": heading(_title(comparison), comparison.get("about")),
        "summary": _summary(comparison),
        "tiny": extractor.startswith("tiny"),
        "extractor": extractor,
        "missing": comparison["missing"],
        "num_asked": len(comparison["missing"]) + len(comparison["runs"]),
        "controlled": bool(comparison["control"]),
        "convergence": convergence_table(comparison),
        "strips": [
            strip
            for figure in all_figures()
            if "strip" in figure.shown and figure.key in figures and (strip := _strip(comparison, figure)) is not None
        ],
        "columns": [figure["label"] for figure in figures.values()],
        "means": _means(comparison),
        "test_note": _test_note(comparison),
        "tests": _tests(comparison),
        "charts": _charts(comparison),
        "every_run": _every_run(comparison),
        "glossary": [(figure["label"], figure["meaning"]) for figure in figures.values()],
        "how": how_made(
            Recipe.model_validate(comparison["recipe"]),
            [Evaluation.model_validate(run["evaluation"]) for run in comparison["runs"]],
        ),
        "notes": comparison["notes"],
        "settings": settings(comparison["methods"], controlled=bool(comparison["control"])),
    }


def _names(comparison: Comparison) -> list[str]:
    return [method["name"] for method in comparison["methods"]]


def _title(comparison: Comparison) -> str:
    names = _names(comparison)
    named = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) <= _NAMED else f"{len(names)} methods"
    return f"{named} on {comparison['model'].get('id') or 'a base model'}"


def _summary(comparison: Comparison) -> str:
    first, data = comparison["methods"][0]["hyperparameters"], comparison["dataset"]
    counts = [
        f"{number(first.get('max_steps'))} steps of {number(first.get('batch_size'))} images for each",
        _plural(len(comparison["paired_seeds"]), "paired seed"),
        f"{number(data.get('num_train'))} training images",
        f"{number(data.get('num_held_out'))} held out",
        *([f"condition {comparison['control']['condition']}"] if comparison["control"] else []),
    ]
    return " · ".join(counts)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _strip(comparison: Comparison, shown: Figure) -> Strip | None:
    key, figure = shown.key, comparison["figures"][shown.key]
    lines = [
        Line(name, f"s{i}", list(figure["methods"][name]["values"].values()), figure["methods"][name]["sd"])
        for i, name in enumerate(_names(comparison))
        if name in figure["methods"]
    ]
    lines += [
        Line(REFERENCES[reference], "reference", [found[key]["mean"]], found[key]["sd"], is_reference=True)
        for reference in ("base_model", shown.limit)
        if key in (found := comparison["references"].get(reference, {}))
    ]
    return place_strip(_named(figure), lines)


def _named(figure: dict[str, Any]) -> str:
    """Its label, with the better way where that is upwards."""
    return str(figure["label"]) + (" (higher is better)" if figure["lower_is_better"] is False else "")


def _means(comparison: Comparison) -> list[Row]:
    figures = comparison["figures"]
    rows = []
    for i, method in enumerate(comparison["methods"]):
        spreads = [figure["methods"].get(method["name"], {}) for figure in figures.values()]
        rows.append(Row(method["name"], f"s{i}", str(len(method["seeds"])), [_spread(found) for found in spreads]))
    for reference, name in REFERENCES.items():
        known = comparison["references"].get(reference)
        if known:
            rows.append(Row(name, "", "", [_spread(known.get(key, {})) for key in figures]))
    return rows


def _spread(found: dict[str, Any]) -> str:
    return with_error(found.get("mean"), found.get("sd"))


def _every_run(comparison: Comparison) -> list[Row]:
    figures, names = comparison["figures"], _names(comparison)
    rows = []
    for run in comparison["runs"]:
        method, seed = run["method"], str(run["seed"])
        values = [figure["methods"].get(method, {}).get("values", {}).get(seed) for figure in figures.values()]
        seen = run["evaluation"].get("target_images")
        cells = [*map(number, values), number(seen)]
        rows.append(Row(method, f"s{names.index(method)}", seed, cells))
    return rows


def _test_note(comparison: Comparison) -> str:
    seeds = len(comparison["paired_seeds"])
    if seeds == 1:
        return "One seed: a difference of two runs, and no test. Nothing here says how it would come out with another."
    smallest = 2.0 ** (1 - seeds)
    floor = f"{_plural(seeds, 'seed')}: the exact test cannot give a p below {smallest:.2g}"
    return f"{floor}{'.' if smallest <= 0.05 else ', so it cannot reach 0.05 whatever the methods do.'}"  # noqa: PLR2004  # the custom


def _tests(comparison: Comparison) -> list[dict[str, Any]]:
    figures = [figure for figure in comparison["figures"].values() if figure["lower_is_better"] is not None]
    labels = [_named(figure) for figure in figures]
    ends = [(label, figure["pairs"]) for label, figure in zip(labels, figures, strict=True)]
    equal = [(label, figure["equal_target_images"]) for label, figure in zip(labels, figures, strict=True)]
    parts = [{"title": "At equal steps", "note": "", "groups": pair_groups(ends)}]
    matches = comparison["equal_target_images"]
    if matches:
        note = "Where one method gives a part of each batch to a retention set, the other has seen more target images. "
        note += "Here the figure is taken where both have seen about as many. The one that is ahead is read amid its "
        note += (
            "run, where its weight average, if it has one, lags: that favours the other. A run of that length is fair."
        )
        far = [match for match in matches if match["steps"] is None]
        for match in far:
            counts = " and ".join(f"{count:,.0f}" for count in match["target_images"])
            note += (
                f" {match['first']} and {match['second']} have no evaluations near enough (nearest: {counts} images);"
            )
            note += " a smaller evaluation.every_steps gives some."
        parts.append({"title": "At equal target images seen", "note": note, "groups": pair_groups(equal)})
    return parts


def _charts(comparison: Comparison) -> list[Chart]:
    charts = []
    for figure in all_figures():
        if "curve" in figure.shown and figure.key in comparison["curves"]:
            charts += _figure_charts(comparison, figure)
    by_t = comparison["retention_loss_by_t"]
    if by_t:
        lines = [_by_t(name, by_t.get(name, [])) for name in _names(comparison)]
        lines += [_by_t("base model", by_t["base_model"])] if "base_model" in by_t else []
        charts.append(line_chart("Loss on the base model's images by t", lines, x_label="t / T", show_last=False))
    losses = comparison["training"].get("target_loss", {})
    if losses:
        lines = [Series(name, [(x, y) for x, y in losses.get(name, [])]) for name in _names(comparison)]
        chart = line_chart("Training loss on target images", lines, x_label="step")
        note = "each over the timesteps that its method draws, so a lower line is no better model"
        charts.append(replace(chart, note="; ".join(filter(None, (chart.note, note)))))
    return charts


def _figure_charts(comparison: Comparison, shown: Figure) -> list[Chart]:
    """The figure by step and, where methods have seen different numbers of target images, by those."""
    key = shown.key
    figure, curves = comparison["figures"][key], comparison["curves"][key]
    if max(map(len, curves.values())) < 2:  # noqa: PLR2004  a point is no curve
        return []
    known = ["base_model", *(["autoencoder_floor"] if shown.group == "agreement" else [])]
    found = {name: comparison["references"].get(name, {}).get(key) for name in known if shown.has_reference_lines}
    rules = [Rule(_RULES[name], entry["mean"]) for name, entry in found.items() if entry]
    charts = [line_chart(figure["label"], _series(comparison, key, "step"), x_label="step", rules=rules)]
    if "strip" in shown.shown and shown.group != "forgetting" and comparison["equal_target_images"]:
        series = _series(comparison, key, "target_images")
        title = f"{figure['label']} by target images seen"
        charts.append(line_chart(title, series, x_label="target images", rules=rules, show_last=False))
    return charts


def _series(comparison: Comparison, key: str, x: str) -> list[Series]:
    """One line a method; those without values stay, so that colours do not move."""
    series = []
    for name in _names(comparison):
        entries = [entry for entry in comparison["curves"][key].get(name, []) if entry[x] is not None]
        band = [(entry["low"], entry["high"]) for entry in entries]
        series.append(Series(name, [(entry[x], entry["mean"]) for entry in entries], band=band))
    return series


def _by_t(name: str, bins: list[dict[str, Number]]) -> Series:
    points = [((i + 0.5) / len(bins), found["mean"]) for i, found in enumerate(bins)]
    return Series(name, points, band=[(found["low"], found["high"]) for found in bins])
