"""Charts of a job: what was logged while it trained, and what its report says of them afterwards."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from difftune_core.config.figures import Figure, all_figures
from difftune_core.config.reports.evaluation import Judged
from difftune_core.config.reports.run import RunReport
from difftune_core.drawing.charts import Chart, Point, Rule, Series, line_chart
from difftune_core.drawing.numbers import Number

Points = dict[str, list[Point]]
_LOSSES = {"train_loss": "all images", "target_loss": "your images", "retention_loss": "retained images"}
_OTHERS = {"learning_rate": "Learning rate", "grad_norm": "Gradient norm"}
_EVALUATED = "eval_"
_LIMITS = {"real_vs_real": "real against real images", "autoencoder_floor": "what the autoencoder leaves"}


def by_name(rows: Iterable[tuple[str, int, float | None]]) -> Points:
    """Finite values by the names of their series."""
    found: Points = defaultdict(list)
    for name, step, value in rows:
        if value is not None and math.isfinite(value):
            found[name].append((step, value))
    return dict(found)


def charts_of(points: Points, report: RunReport | None) -> list[Chart]:
    """All charts that have something to draw: losses, figures over steps, losses by t, the rest."""
    found = _losses(points) + _figures(points, report) + (_by_t(report) if report else [])
    for name, title in _OTHERS.items():
        if len({value for _, value in points.get(name, [])}) > 1:
            found.append(line_chart(title, [Series("at the end", points[name])], x_label="step"))
    return found


def _losses(points: Points) -> list[Chart]:
    lines = [Series(title, points[name]) for name, title in _LOSSES.items() if points.get(name)]
    if len(lines) == 2 and "retention_loss" not in points:  # noqa: PLR2004  all images are target images then
        lines = lines[:1]
    return [line_chart("Training loss", lines, x_label="step")] if lines else []


def _figures(points: Points, report: RunReport | None) -> list[Chart]:
    """Figures over the steps: of the report, with intervals and the base model as step 0; before it, as logged."""
    found = []
    for figure in all_figures():
        if figure.chart is None:
            continue
        line, rules = _line(figure, points, report)
        if line.points:
            found.append(line_chart(figure.chart.title, [line], x_label="step", rules=rules))
    return found


def _line(figure: Figure, points: Points, report: RunReport | None) -> tuple[Series, list[Rule]]:
    assert figure.chart is not None, "drawn"
    if report is None or not report.evaluations:
        return Series(figure.chart.line, points.get(_EVALUATED + figure.key, [])), []
    scored: list[tuple[Number, Judged]] = [(entry.step, entry) for entry in report.evaluations]
    base = report.reference("base_model")
    if report.evaluations[0].step > 0 and base.has(figure.key):
        scored.insert(0, (0, base))
    values = [(step, entry, value) for step, entry in scored if (value := entry.value(figure.key)) is not None]
    errors = [entry.error(figure.key) or 0.0 for _, entry, _ in values]
    line = Series(figure.chart.line, [(step, value) for step, _, value in values], errors)
    limit = report.reference(figure.limit).value(figure.key)
    return line, [] if limit is None else [Rule(_LIMITS[figure.limit], limit)]


def _by_t(report: RunReport) -> list[Chart]:
    tuned, base = report.result or Judged(), report.reference("base_model")
    drawn = {
        "Loss on held-out images by t": (tuned.held_out_loss_by_t, base.held_out_loss_by_t),
        "Loss on the base model’s images by t": (
            tuned.forgetting.retention_loss_by_t,
            base.forgetting.retention_loss_by_t,
        ),
    }
    found = []
    for title, (ours, theirs) in drawn.items():
        lines = [Series(name, _bins(by_t)) for name, by_t in (("tuned", ours), ("base model", theirs)) if by_t]
        if ours:
            found.append(line_chart(title, lines, x_label="t / T", show_last=False))
    return found


def _bins(values: Sequence[Number | None]) -> list[Point]:
    """Values at the middle of equal bins of t in [0, 1]."""
    return [((i + 0.5) / len(values), value) for i, value in enumerate(values) if value is not None]
