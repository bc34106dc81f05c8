"""What the page of a comparison shows, prepared for its template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from difftune_core.config.figures import Figure, all_figures
from difftune_core.config.reports.comparison import ComparisonReport, CurvePoint, FigureTold, SpreadTold
from difftune_core.drawing.charts import Chart, Rule, Series, line_chart
from difftune_core.drawing.numbers import Number, number, with_error
from difftune_core.evaluate.comparison.convergence import convergence_table
from difftune_core.evaluate.comparison.strips import Line, Strip, place_strip
from difftune_core.evaluate.comparison.tables import pair_groups, settings
from difftune_core.evaluate.report.entries import REFERENCES, is_of_few
from difftune_core.evaluate.report.heading import heading
from difftune_core.evaluate.report.view import how_made

_NAMED = 3  # methods in the title
_RULES = {"base_model": "base model", "autoencoder_floor": "autoencoder alone"}


@dataclass(frozen=True)
class Row:
    """A line of a table of figures; `css` is the method's colour."""

    name: str
    css: str
    seeds: str
    cells: list[str]


def context(comparison: ComparisonReport) -> dict[str, Any]:
    """Return everything that the template needs but the images."""
    figures = comparison.figures
    return {
        "heading": heading(_title(comparison), comparison.about),
        "summary": _summary(comparison),
        "tiny": comparison.recipe.is_of_our_own,
        "extractor": comparison.recipe.feature_extractor,
        "missing": comparison.missing,
        "num_asked": len(comparison.missing) + len(comparison.runs),
        "shortcomings": comparison.shortcomings,
        "controlled": bool(comparison.control),
        "convergence": convergence_table(comparison),
        "strips": _strips(comparison),
        "columns": [figure.label + _few(comparison, key) for key, figure in figures.items()],
        "means": _means(comparison),
        "test_note": _test_note(comparison),
        "tests": _tests(comparison),
        "charts": _charts(comparison),
        "every_run": _every_run(comparison),
        "glossary": [(figure.label, figure.meaning) for figure in figures.values()],
        "how": how_made(comparison.recipe, [run.evaluation for run in comparison.runs]),
        "notes": list(comparison.notes),
        "settings": settings(comparison.methods, controlled=bool(comparison.control)),
    }


def _title(comparison: ComparisonReport) -> str:
    names = comparison.names
    named = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) <= _NAMED else f"{len(names)} methods"
    return f"{named} on {comparison.model.get('id') or 'a base model'}"


def _summary(comparison: ComparisonReport) -> str:
    first, data = comparison.methods[0].hyperparameters, comparison.dataset
    counts = [
        f"{number(first.get('max_steps'))} steps of {number(first.get('batch_size'))} images for each",
        _plural(len(comparison.paired_seeds), "paired seed"),
        f"{number(data.num_train)} training images",
        f"{number(data.num_held_out)} held out",
        *([f"condition {comparison.control['condition']}"] if comparison.control else []),
    ]
    return " · ".join(counts)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _strips(comparison: ComparisonReport) -> list[Strip]:
    shown = [figure for figure in all_figures() if "strip" in figure.shown and figure.key in comparison.figures]
    return [strip for figure in shown if (strip := _strip(comparison, figure)) is not None]


def _strip(comparison: ComparisonReport, shown: Figure) -> Strip | None:
    key, figure = shown.key, comparison.figures[shown.key]
    lines = [
        Line(name, f"s{i}", list(found.values.values()), found.sd)
        for i, name in enumerate(comparison.names)
        if (found := figure.methods.get(name)) is not None
    ]
    lines += [
        Line(REFERENCES[reference], "reference", [known.mean], known.sd, is_reference=True)
        for reference in ("base_model", shown.limit)
        if (known := comparison.references.get(reference, {}).get(key)) is not None and known.mean is not None
    ]
    return place_strip(_named(figure) + _few(comparison, key), lines)


def _few(comparison: ComparisonReport, key: str) -> str:
    """Return what stands beside the label of a distance that any run warns of."""
    return ", too few images: see the notes" if any(is_of_few(run.evaluation, key) for run in comparison.runs) else ""


def _named(figure: FigureTold) -> str:
    """Label a figure, with the better way where that is upwards."""
    return figure.label + (" (higher is better)" if figure.lower_is_better is False else "")


def _means(comparison: ComparisonReport) -> list[Row]:
    figures, rows = comparison.figures, []
    for i, method in enumerate(comparison.methods):
        cells = [_spread(figure.methods.get(method.name)) for figure in figures.values()]
        rows.append(Row(method.name, f"s{i}", str(len(method.seeds)), cells))
    for reference, name in REFERENCES.items():
        known = comparison.references.get(reference)
        if known:
            rows.append(Row(name, "", "", [_spread(known.get(key)) for key in figures]))
    return rows


def _spread(found: SpreadTold | None) -> str:
    return number(None) if found is None else with_error(found.mean, found.sd)


def _every_run(comparison: ComparisonReport) -> list[Row]:
    figures, names, rows = comparison.figures, comparison.names, []
    for run in comparison.runs:
        of_method = [figure.methods.get(run.method) for figure in figures.values()]
        values = [None if found is None else found.values.get(str(run.seed)) for found in of_method]
        cells = [*map(number, values), number(run.evaluation.target_images)]
        rows.append(Row(run.method, f"s{names.index(run.method)}", str(run.seed), cells))
    return rows


def _test_note(comparison: ComparisonReport) -> str:
    seeds = len(comparison.paired_seeds)
    if seeds == 1:
        return "One seed: a difference of two runs, and no test. Nothing here says how it would come out with another."
    smallest = 2.0 ** (1 - seeds)
    floor = f"{_plural(seeds, 'seed')}: the exact test cannot give a p below {smallest:.2g}"
    return f"{floor}{'.' if smallest <= 0.05 else ', so it cannot reach 0.05 whatever the methods do.'}"  # noqa: PLR2004  # the custom


def _tests(comparison: ComparisonReport) -> list[dict[str, Any]]:
    figures = [figure for figure in comparison.figures.values() if figure.lower_is_better is not None]
    ends = [(_named(figure), figure.pairs) for figure in figures]
    equal = [(_named(figure), figure.equal_target_images) for figure in figures]
    parts = [{"title": "At equal steps", "note": "", "groups": pair_groups(ends)}]
    matches = comparison.equal_target_images
    if matches:
        note = "Where one method gives a part of each batch to a retention set, the other has seen more target images. "
        note += "Here the figure is taken where both have seen about as many. The one that is ahead is read amid its "
        note += (
            "run, where its weight average, if it has one, lags: that favours the other. A run of that length is fair."
        )
        far = [match for match in matches if match.steps is None]
        for match in far:
            counts = " and ".join(f"{count:,.0f}" for count in match.target_images)
            note += f" {match.first} and {match.second} have no evaluations near enough (nearest: {counts} images);"
            note += " a smaller evaluation.every_steps gives some."
        parts.append({"title": "At equal target images seen", "note": note, "groups": pair_groups(equal)})
    return parts


def _charts(comparison: ComparisonReport) -> list[Chart]:
    charts, names = [], comparison.names
    for figure in all_figures():
        if "curve" in figure.shown and figure.key in comparison.curves:
            charts += _figure_charts(comparison, figure)
    by_t = comparison.retention_loss_by_t
    if by_t:
        lines = [_by_t(name, by_t.get(name, ())) for name in names]
        lines += [_by_t("base model", by_t["base_model"])] if "base_model" in by_t else []
        charts.append(line_chart("Loss on the base model's images by t", lines, x_label="t / T", show_last=False))
    losses = comparison.training.get("target_loss", {})
    if losses:
        lines = [Series(name, losses.get(name, [])) for name in names]
        chart = line_chart("Training loss on target images", lines, x_label="step")
        note = "each over the timesteps that its method draws, so a lower line is no better model"
        charts.append(replace(chart, note="; ".join(filter(None, (chart.note, note)))))
    return charts


def _figure_charts(comparison: ComparisonReport, shown: Figure) -> list[Chart]:
    """The figure by step and, where methods have seen different numbers of target images, by those."""
    label, curves = comparison.figures[shown.key].label, comparison.curves[shown.key]
    if max(map(len, curves.values())) < 2:  # noqa: PLR2004  a point is no curve
        return []
    known = ["base_model", *(["autoencoder_floor"] if shown.group == "agreement" else [])]
    found = {name: comparison.references.get(name, {}).get(shown.key) for name in known if shown.has_reference_lines}
    rules = [
        Rule(_RULES[name], entry.mean) for name, entry in found.items() if entry is not None and entry.mean is not None
    ]
    charts = [line_chart(label, _series(comparison, shown.key, _step), x_label="step", rules=rules)]
    if "strip" in shown.shown and shown.group != "forgetting" and comparison.equal_target_images:
        series = _series(comparison, shown.key, _target_images)
        title = f"{label} by target images seen"
        charts.append(line_chart(title, series, x_label="target images", rules=rules, show_last=False))
    return charts


def _step(point: CurvePoint) -> Number | None:
    return point.step


def _target_images(point: CurvePoint) -> Number | None:
    return point.target_images


def _series(comparison: ComparisonReport, key: str, x_of: Callable[[CurvePoint], Number | None]) -> list[Series]:
    """Return one line a method; those without values stay, so that colours do not move."""
    series = []
    for name in comparison.names:
        points = [(x, p) for p in comparison.curves[key].get(name, ()) if (x := x_of(p)) is not None]
        line = [(x, point.mean) for x, point in points if point.mean is not None]
        series.append(Series(name, line, band=[_band(point) for _, point in points]))
    return series


def _by_t(name: str, bins: Sequence[SpreadTold]) -> Series:
    points = [((i + 0.5) / len(bins), found.mean) for i, found in enumerate(bins) if found.mean is not None]
    return Series(name, points, band=[_band(found) for found in bins])


def _band(found: SpreadTold) -> tuple[Number, Number]:
    """The range over seeds."""
    low, high = found.low, found.high
    assert low is not None, "of a mean"
    assert high is not None, "of a mean"
    return low, high
