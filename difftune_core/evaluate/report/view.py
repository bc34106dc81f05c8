"""Prepares of a report what its page shows. Parts that the dict lacks are left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from difftune_core.config.figures import Figure
from difftune_core.config.methods.table import label_of
from difftune_core.config.recipe_rules import idle
from difftune_core.config.reports.evaluation import Evaluation, Judged
from difftune_core.config.reports.run import Recipe, RunReport
from difftune_core.drawing.charts import Chart, Point, Rule, Series, line_chart
from difftune_core.drawing.numbers import Number, number
from difftune_core.evaluate.report.convergence import convergence_tile, how_converged
from difftune_core.evaluate.report.entries import REFERENCES, measures
from difftune_core.evaluate.report.heading import heading
from difftune_core.evaluate.report.tables import ERROR_MEANING, glossary, scale, tables, tiles

__all__ = ["REFERENCES", "context", "how_made"]

_LOSSES = {"train_loss": "all", "target_loss": "target images", "retention_loss": "retention images"}
_CURVES = {"grad_norm": "Gradient norm", "learning_rate": "Learning rate"}
_HIDDEN = {"target_images"}
_DIGEST_CHARS = 12
_TWO_SIDED = 1.96  # standard errors of a 95 % interval


def context(report: RunReport) -> dict[str, Any]:
    """Return everything that the template needs but the images."""
    method = label_of(report.method) or "fine-tuning"
    what = f"{method[0].upper()}{method[1:]} of {report.model.get('id', 'a base model')}"
    return {
        "heading": heading(what, report.about),
        "summary": _summary(report),
        "tiny": report.recipe.is_of_our_own,
        "shortcomings": [found.message for found in report.shortcomings],
        "extractor": report.recipe.feature_extractor,
        "tiles": [*convergence_tile(report), *tiles(report)],
        "scale": scale(report),
        "charts": _charts(report),
        "tables": tables(report),
        "glossary": [*how_converged(report), *glossary(report)],
        "how": how_made(report.recipe, report.evaluations),
        "error_meaning": ERROR_MEANING,
        "facts": _facts(report),
        "class_names": list(report.dataset.class_names),
        "notes": [*report.notes, *_not_told_apart(report), *_warnings(report)],
    }


def _not_told_apart(report: RunReport) -> list[str]:
    """Say where the training images themselves score as well as the result, beyond the errors of both."""
    result, copied = report.result or Judged(), report.reference("training_set")
    own, other = result.value("fid"), copied.value("fid")
    if own is None or other is None:
        return []
    error = math.hypot(result.error("fid") or 0.0, copied.error("fid") or 0.0)
    if other > own + _TWO_SIDED * error:
        return []
    both = f"The training set itself has an FID of {number(other)} against the held-out images, this run {number(own)}"
    return [f"{both}: FID cannot tell it from a model that copies. Read the share of copies beside it."]


def _warnings(report: RunReport) -> list[str]:
    """Return what the comparisons themselves warn of, once each, with the rows of the table that it is about."""
    evaluated: dict[str, Judged] = {f"After step {number(entry.step)}": entry for entry in report.evaluations}
    references = {name: report.references[key] for key, name in REFERENCES.items() if key in report.references}
    rows = [*evaluated.items(), *references.items()]
    guided = [(f"{name}, guidance {g}", e) for name, entry in rows for g, e in entry.other_guidance.items()]
    about: dict[str, list[str]] = {}
    for name, entry in [*rows, *guided]:
        for warning in entry.warnings:
            about.setdefault(warning, []).append(name)
    return [f"{_together(names, list(evaluated))}: {warning}" for warning, names in about.items()]


def _together(names: list[str], evaluated: list[str]) -> str:
    """Names of rows, those of all evaluations as one."""
    unique = list(dict.fromkeys(names))
    if len(evaluated) > 1 and set(evaluated) <= set(unique):
        unique = ["Every evaluation", *(name for name in unique if name not in evaluated)]
    return ", ".join(unique)


def how_made(recipe: Recipe, evaluations: Sequence[Judged]) -> str:
    """Tell in one sentence how FID, KID and forgetting came about."""
    told, sampling = recipe.given(), {**recipe.sampling, "guided": _guided(recipe.sampling)}
    parts = [
        _join("FID and KID of {num_generated} generated against {num_real} held-out images", told),
        _join("reference set {reference_set_digest}", told),
        _join("features of {feature_extractor} ({feature_extractor_digest})", told),
        _join("{sampler} with {num_inference_steps} steps, {guided}, seed {seed}", sampling),
        _join("weights: {weights}", told),
        _join("classes: {class_distribution}", told),
    ]
    errors = sorted({entry.part("fid_se_method") for entry in evaluations if entry.has_own("fid_se_method")})
    parts += [f"standard errors of FID by {' and '.join(errors)}"] if errors else []
    kernels = sorted({entry.part("kid_method") for entry in evaluations if entry.has_own("kid_method")})
    parts += [f"KID by {' and '.join(kernels)}"] if kernels else []
    return "; ".join(part for part in parts if part) + "." if any(parts) else ""


def _guided(sampling: dict[str, Any]) -> str:
    if sampling.get("guidance") == "none":
        return "no guidance"
    kind = "domain guidance" if sampling.get("guidance") == "domain" else "guidance"
    return _join(f"{kind} {{guidance_scale}}", sampling)


def _join(text: str, values: dict[str, Any]) -> str:
    """The text with its fields filled in, or nothing where one is missing."""
    try:
        return text.format(**{key: _short(value) for key, value in values.items()})
    except KeyError:
        return ""


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    is_digest = len(text) > 2 * _DIGEST_CHARS and all(c in "0123456789abcdef" for c in text[: 2 * _DIGEST_CHARS])
    return f"{text[:_DIGEST_CHARS]}\u2026" if is_digest else text


def _summary(report: RunReport) -> str:
    data, settings = report.dataset, report.hyperparameters
    parts = [
        _join("{max_steps} steps of {batch_size} images", settings),
        _join("{num_train} training images", data.given()),
        _join("{num_held_out} held out", data.given()),
        f"{len(data.class_names)} classes" if data.class_names else "",
        _join("condition {condition}", report.job.get("control") or {}),
        _begun_with(report),
        _delivered(report),
    ]
    return " · ".join(part for part in parts if part)


def _begun_with(report: RunReport) -> str:
    """The checkpoints that the run comes from, where it did not begin with the base model."""
    named = [f"step {number(one.step)} of {one.job or one.checkpoint}" for one in report.lineage]
    return f"begun with {', which began with '.join(named)}" if named else ""


def _delivered(report: RunReport) -> str:
    """Return which step's model the page is about, where it is not the last one's."""
    step, best, evaluations = report.delivered_step, report.best, report.evaluations
    if best is None or not evaluations or step in {None, evaluations[-1].step}:
        return ""
    return f"delivered: step {number(step)} of {number(evaluations[-1].step)}, the best by {best.metric}"


def _charts(report: RunReport) -> list[Chart]:
    curves = {k: points for k, v in report.curves.items() if (points := _points(v))}
    losses = [Series(name, curves[key]) for key, name in _LOSSES.items() if key in curves]
    if len(losses) == 2 and "retention_loss" not in curves:  # noqa: PLR2004  all images are target images then
        losses = losses[:1]
    charts = [line_chart("Training loss", losses, x_label="step")] if losses else []
    charts += _evaluation_charts(report)
    for key, points in curves.items():
        is_flat = key == "learning_rate" and len({value for _, value in points}) == 1
        if key not in _LOSSES and key not in _HIDDEN and not is_flat:
            name = _CURVES.get(key, key.replace("_", " "))
            charts.append(line_chart(name, [Series("at the end", points)], x_label="step"))
    return charts


def _points(values: Sequence[tuple[Number, Number | None]]) -> list[Point]:
    """Points with a value; what was no number is null by now."""
    return [(x, y) for x, y in values if y is not None]


def _evaluation_charts(report: RunReport) -> list[Chart]:
    charts = []
    for measure in measures(report):
        points, errors = _over_steps(report.evaluations, measure.key)
        if len(points) > 1 and measure.chart is not None:
            line = Series(measure.chart.line, points, errors)
            charts.append(line_chart(measure.chart.title, [line], x_label="step", rules=_rules(report, measure)))
    return charts + _charts_by_t(report)


def _charts_by_t(report: RunReport) -> list[Chart]:
    """The loss over the chain, on held-out images and on the base model's own."""
    tuned, base = report.result or Judged(), report.reference("base_model")
    found = {
        "Loss on held-out images by t": (tuned.held_out_loss_by_t, base.held_out_loss_by_t),
        "Loss on the base model's images by t": (
            tuned.forgetting.retention_loss_by_t,
            base.forgetting.retention_loss_by_t,
        ),
    }
    charts = []
    for title, (ours, theirs) in found.items():
        lines = [Series(name, _bins(by_t)) for name, by_t in (("tuned", ours), ("base model", theirs)) if by_t]
        if ours:
            charts.append(line_chart(title, lines, x_label="t / T", show_last=False))
    return charts


def _over_steps(evaluations: Sequence[Evaluation], key: str) -> tuple[list[Point], list[Number]]:
    """A figure over the run, with its standard errors."""
    scored = [(entry, value) for entry in evaluations if (value := entry.value(key)) is not None]
    return [(entry.step, value) for entry, value in scored], [entry.error(key) or 0.0 for entry, _ in scored]


def _rules(report: RunReport, measure: Figure) -> list[Rule]:
    """The references' values of a figure."""
    limit = report.reference(measure.limit).value(measure.key)
    found = {"base_model": report.base_value(measure.key), measure.limit: limit}
    return [Rule(REFERENCES[name], value) for name, value in found.items() if value is not None]


def _bins(values: Sequence[Number | None]) -> list[Point]:
    """Values at the middle of equal bins of t in [0, 1]."""
    return [((i + 0.5) / len(values), value) for i, value in enumerate(values) if value is not None]


def _facts(report: RunReport) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titled lists of everything that the run was made of."""
    settings = report.hyperparameters
    unused = idle(settings, controlled=report.is_controlled)
    used = {key: value for key, value in settings.items() if key not in unused}
    sections = [
        ("Method", {"method": report.job.get("method", {}).get("type"), **used}),
        ("Job", {key: value for key, value in report.job.items() if key != "method"}),
        ("Begun with", {f"step {one.step} of {one.job}".strip(): one.checkpoint for one in report.lineage}),
        ("How the figures were made", report.recipe.given()),
        ("Data set", {k: v for k, v in report.dataset.given().items() if k != "class_names"}),
        ("Retention set", report.retention_set),
        ("Base model", {k: v for k, v in report.model.items() if k != "defaults"}),
        ("Environment", report.environment),
    ]
    return [(title, rows) for title, values in sections if (rows := _flat(values))]


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            rows += _flat(value, f"{name} \u203a ")
        elif value is not None and value != "":
            rows.append(
                (name, ", ".join(_short(v) for v in value) if isinstance(value, list | tuple) else _exact(value))
            )
    return rows


def _exact(value: Any) -> str:
    """Write a value as `_short` does, but digests whole."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else _short(value)
