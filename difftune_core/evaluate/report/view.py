"""From the report's dict to what the page shows. Parts that the dict lacks are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from difftune_core.evaluate.report.charts import Chart, Point, Rule, Series, line_chart
from difftune_core.evaluate.report.numbers import Number, number, with_error
from difftune_core.evaluate.report.scale import Mark, Scale, place

Report = dict[str, Any]

METHODS = {"diff_tuning": "Diff-Tuning", "supervised": "Plain fine-tuning"}
REFERENCES = {
    "base_model": "Base model, not tuned",
    "real_vs_real": "Real against real",
    "autoencoder_floor": "Autoencoder alone",
}
_MEANINGS = {
    "base_model": "The base model, label table of the target, before the first step.",
    "real_vs_real": "Two parts of the held-out images: what equally good images would score, at this count.",
    "autoencoder_floor": "Held-out images encoded and decoded: what the autoencoder costs, however good the samples.",
}
_LOSSES = {"train_loss": "all", "target_loss": "target images", "retention_loss": "retention images"}
_CURVES = {"grad_norm": "Gradient norm", "learning_rate": "Learning rate"}
_HIDDEN = {"target_images"}
_DIGEST_CHARS = 12


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class TableRow:
    """A line of the table of figures."""

    name: str
    cells: list[str]
    meaning: str = ""
    is_result: bool = False


def context(report: Report) -> dict[str, Any]:
    """Everything that the template needs but the images."""
    model = report.get("model", {})
    method = report.get("job", {}).get("method", {}).get("type", "")
    return {
        "title": f"{METHODS.get(method, method or 'Fine-tuning')} of {model.get('id', 'a base model')}",
        "summary": _summary(report),
        "tiny": _is_tiny(report),
        "extractor": _recipe(report).get("feature_extractor", "unknown"),
        "tiles": _tiles(report),
        "scale": _scale(report),
        "charts": _charts(report),
        "table": _table(report),
        "how": how_made(report),
        "facts": _facts(report),
        "class_names": report.get("dataset", {}).get("class_names", []),
        "notes": [*report.get("notes", []), *_warnings(report)],
    }


def _warnings(report: Report) -> list[str]:
    """What the comparisons themselves warn of, once each."""
    entries = [*report.get("evaluations", []), *report.get("references", {}).values()]
    return list(dict.fromkeys(warning for entry in entries for warning in entry.get("warnings", [])))


def how_made(report: Report) -> str:
    """One sentence: how FID, KID and forgetting came about."""
    recipe = _recipe(report)
    sampling = recipe.get("sampling", {})
    parts = [
        _join("FID and KID of {num_generated} generated against {num_real} held-out images", recipe),
        _join("reference set {reference_set_digest}", recipe),
        _join("features of {feature_extractor} ({feature_extractor_digest})", recipe),
        _join("{sampler} with {num_inference_steps} steps, guidance {guidance_scale}, seed {seed}", sampling),
        _join("weights: {weights}", recipe),
        _join("classes: {class_distribution}", recipe),
    ]
    errors = sorted({e["fid_se_method"] for e in report.get("evaluations", []) if "fid_se_method" in e})
    parts += [f"standard errors of FID by {' and '.join(errors)}"] if errors else []
    kernels = sorted({e["kid_method"] for e in report.get("evaluations", []) if "kid_method" in e})
    parts += [f"KID by {' and '.join(kernels)}"] if kernels else []
    return "; ".join(part for part in parts if part) + "." if any(parts) else ""


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


def _recipe(report: Report) -> dict[str, Any]:
    return dict(report.get("recipe", {}))


def _is_tiny(report: Report) -> bool:
    return str(_recipe(report).get("feature_extractor", "")).startswith("tiny")


def _hyperparameters(report: Report) -> dict[str, Any]:
    method = report.get("job", {}).get("method", {})
    return dict(method.get(method.get("type", ""), {}).get("hyperparameters", {}))


def _summary(report: Report) -> str:
    data, settings = report.get("dataset", {}), _hyperparameters(report)
    parts = [
        _join("{max_steps} steps of {batch_size} images", settings),
        _join("{num_train} training images", data),
        _join("{num_held_out} held out", data),
        f"{len(data['class_names'])} classes" if data.get("class_names") else "",
    ]
    return " · ".join(part for part in parts if part)


def _last(report: Report) -> dict[str, Any]:
    evaluations = report.get("evaluations", [])
    return dict(evaluations[-1]) if evaluations else {}


def _tiles(report: Report) -> list[Tile]:
    last, references = _last(report), report.get("references", {})
    base, real = references.get("base_model", {}), references.get("real_vs_real", {})
    tiles = []
    for key, label in (("fid", "FID on held-out images"), ("kid", "KID on held-out images")):
        if key in last:
            detail = f"base model {number(base.get(key), 3)}, real against real {number(real.get(key), 3)}"
            tiles.append(Tile(label, with_error(last[key], last.get(f"{key}_se")), detail))
    forgetting = last.get("forgetting", {})
    if "null_fid" in forgetting:
        kept = _base_forgetting(report, "null_fid")
        tiles.append(Tile("Forgetting", number(forgetting["null_fid"]), f"base model itself {number(kept, 3)}"))
    images = report.get("curves", {}).get("target_images", [])
    if images:
        tiles.append(Tile("Target images seen", number(int(images[-1][1])), f"in {number(int(images[-1][0]))} steps"))
    return tiles


def _base_forgetting(report: Report, key: str) -> Any:
    """The base model's own figure, as a reference or beside the result."""
    base = report.get("references", {}).get("base_model", {}).get("forgetting", {})
    return base.get(key, _last(report).get("forgetting", {}).get(f"{key}_base"))


def _scale(report: Report) -> Scale | None:
    last = _last(report)
    marks = [
        Mark(name, report["references"][key]["fid"], report["references"][key].get("fid_se"))
        for key, name in REFERENCES.items()
        if report.get("references", {}).get(key, {}).get("fid") is not None
    ]
    if last.get("fid") is not None:
        marks.append(Mark("This run", last["fid"], last.get("fid_se"), is_result=True))
    return place(marks)


def _charts(report: Report) -> list[Chart]:
    curves = {k: points for k, v in report.get("curves", {}).items() if (points := _points(v))}
    losses = [Series(name, curves[key]) for key, name in _LOSSES.items() if key in curves]
    if len(losses) == 2 and "retention_loss" not in curves:  # noqa: PLR2004  all images are target images then
        losses = losses[:1]
    charts = [line_chart("Training loss", losses, x_label="step")] if losses else []
    charts += _evaluation_charts(report)
    for key, points in curves.items():
        if key not in _LOSSES and key not in _HIDDEN:
            name = _CURVES.get(key, key.replace("_", " "))
            charts.append(line_chart(name, [Series("at the end", points)], x_label="step"))
    return charts


def _points(values: list[list[Number | None]]) -> list[Point]:
    """Points with a value; what was no number is null by now."""
    return [(x, y) for x, y in values if x is not None and y is not None]


def _evaluation_charts(report: Report) -> list[Chart]:
    evaluations, references = report.get("evaluations", []), report.get("references", {})
    charts = []
    scored = [e for e in evaluations if e.get("fid") is not None]
    if len(scored) > 1:
        known = [k for k in ("base_model", "real_vs_real") if references.get(k, {}).get("fid") is not None]
        rules = [Rule(REFERENCES[k], references[k]["fid"]) for k in known]
        series = Series("FID", [(e["step"], e["fid"]) for e in scored], [e.get("fid_se") or 0.0 for e in scored])
        charts.append(line_chart("FID on held-out images", [series], x_label="step", rules=rules))
    remembered = [e for e in evaluations if e.get("forgetting", {}).get("null_fid") is not None]
    if len(remembered) > 1:
        base = _base_forgetting(report, "null_fid")
        series = Series("null branch to source", [(e["step"], e["forgetting"]["null_fid"]) for e in remembered])
        rules = [Rule(REFERENCES["base_model"], base)] if base is not None else []
        charts.append(line_chart("Forgetting", [series], x_label="step", rules=rules))
    by_t = _last(report).get("forgetting", {}).get("retention_loss_by_t")
    if by_t:
        lines = [Series("tuned", _bins(by_t))]
        base = _base_forgetting(report, "retention_loss_by_t")
        lines += [Series("base model", _bins(base))] if base else []
        title = "Loss on the base model's images by t"
        charts.append(line_chart(title, lines, x_label="t / T", show_last=False))
    return charts


def _bins(values: list[Number]) -> list[Point]:
    """Values at the middle of equal bins of t in [0, 1]."""
    return [((i + 0.5) / len(values), value) for i, value in enumerate(values)]


def _table(report: Report) -> list[TableRow]:
    references = report.get("references", {})
    evaluations = report.get("evaluations", [])
    rows = [
        TableRow(f"After step {number(entry['step'])}", _cells(entry), is_result=entry is evaluations[-1])
        for entry in evaluations
    ]
    return rows + [
        TableRow(name, _cells(references[key]), _MEANINGS[key]) for key, name in REFERENCES.items() if key in references
    ]


def _cells(entry: dict[str, Any]) -> list[str]:
    forgetting = entry.get("forgetting", {})
    return [
        with_error(entry.get("fid"), entry.get("fid_se")),
        with_error(entry.get("kid"), entry.get("kid_se")),
        number(forgetting.get("null_fid")),
        number(forgetting.get("retention_loss")),
        f"{number(entry.get('num_fake'))} / {number(entry.get('num_real'))}",
        number(entry.get("seconds"), 3),
    ]


def _facts(report: Report) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titled lists of everything that the run was made of."""
    job = {key: value for key, value in report.get("job", {}).items() if key != "method"}
    sections = [
        ("Method", {"method": report.get("job", {}).get("method", {}).get("type"), **_hyperparameters(report)}),
        ("Job", job),
        ("How the figures were made", _recipe(report)),
        ("Data set", {k: v for k, v in report.get("dataset", {}).items() if k != "class_names"}),
        ("Retention set", report.get("retention_set") or {}),
        ("Base model", {k: v for k, v in report.get("model", {}).items() if k != "defaults"}),
        ("Environment", report.get("environment", {})),
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
    """As `_short`, but digests whole."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else _short(value)
