"""The page's figures: headline tiles, the scale between floor and ceiling, the table of everything measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from difftune_core.evaluate.best import Entry, figure
from difftune_core.evaluate.report.entries import REFERENCES, Measure, Report, base_figure, measures, result_of
from difftune_core.evaluate.report.numbers import number, with_error
from difftune_core.evaluate.report.scale import Mark, Scale, place

_MEANINGS = {
    "base_model": "The base model, label table of the target, before the first step.",
    "real_vs_real": "Two parts of the held-out images: what equally good images would score, at this count.",
    "autoencoder_floor": "Held-out images encoded and decoded: what the autoencoder costs, however good the samples.",
}
_GUIDANCE = {
    "none": "The class branch alone, from the same seeds.",
    "domain": "Guided away from the base model's null branch, from the same seeds.",
    "cfg": "Guided away from its own null branch, from the same seeds.",
}
_TILE_TITLES = {"fid": "FID on held-out images", "kid": "KID on held-out images"}
_ERROR_MEANING = ("±", "One standard error over the choice of images; it does not cover seeds of training.")


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


@dataclass(frozen=True)
class Table:
    """All figures, and what their columns mean."""

    columns: list[str]
    rows: list[TableRow]
    glossary: list[tuple[str, str]]


def tiles(report: Report) -> list[Tile]:
    """The result's figures, each beside the references."""
    result, shown = result_of(report), []
    for measure in measures(report):
        value = figure(result, measure.key)
        if value is None and measure.key not in result:
            continue
        title = _TILE_TITLES.get(measure.key, measure.title)
        shown.append(Tile(title, with_error(value, result.get(f"{measure.key}_se")), _beside(report, measure)))
    images = report.get("curves", {}).get("target_images", [])
    if images:
        step, count = (result["step"], result["target_images"]) if "target_images" in result else images[-1]
        shown.append(Tile("Target images seen", number(int(count)), f"in {number(int(step))} steps"))
    return [tile for tile in shown if tile.label != "Retention loss"]  # the chart by t says more


def _beside(report: Report, measure: Measure) -> str:
    if figure(result_of(report), measure.key) is None:
        return "not measured: see the notes"
    base = number(base_figure(report, measure.key), 3)
    if measure.of_images:
        real = figure(report.get("references", {}).get("real_vs_real", {}), measure.key)
        return f"base model {base}, real against real {number(real, 3)}"
    if measure.key == "l2_from_base":
        return "squared, over all trained parameters; the paper's measure"
    return f"base model itself {base}"


def scale(report: Report) -> Scale | None:
    """The result's FID between the references'."""
    references, result = report.get("references", {}), result_of(report)
    marks = [
        Mark(name, value, references[key].get("fid_se"))
        for key, name in REFERENCES.items()
        if (value := figure(references.get(key, {}), "fid")) is not None
    ]
    own = figure(result, "fid")
    if own is not None:
        marks.append(Mark("This run", own, result.get("fid_se"), is_result=True))
    return place(marks)


def table(report: Report) -> Table:
    """A row for each evaluation, for each further guidance, for each reference."""
    columns, references = measures(report), report.get("references", {})
    rows: list[TableRow] = []
    result = result_of(report)
    for entry in report.get("evaluations", []):
        is_result = entry["step"] == result["step"]
        rows.append(TableRow(_name(report, entry), _cells(entry, columns), is_result=is_result))
        rows += _guidance_rows(entry, columns)
    for key, name in REFERENCES.items():
        if key in references:
            rows.append(TableRow(name, _cells(references[key], columns), _MEANINGS[key]))
            rows += _guidance_rows(references[key], columns)
    titles = [m.title for m in columns]
    glossary = [*((m.title, m.meaning) for m in columns), _ERROR_MEANING]
    return Table([*titles, "Images (judged / real)", "Seconds"], rows, glossary)


def _name(report: Report, entry: Entry) -> str:
    best = report.get("best") or {}
    name = f"After step {number(entry['step'])}"
    name += f", best {best['metric']}" if best.get("step") == entry["step"] else ""
    return f"{name}, delivered" if report.get("delivered_step") == entry["step"] else name


def _guidance_rows(entry: Entry, columns: list[Measure]) -> list[TableRow]:
    found: dict[str, Entry] = entry.get("other_guidance", {})
    return [TableRow(f"\u21b3 guidance {name}", _cells(e, columns), _GUIDANCE[name]) for name, e in found.items()]


def _cells(entry: dict[str, Any], columns: list[Measure]) -> list[str]:
    return [
        *(with_error(figure(entry, m.key), entry.get(f"{m.key}_se")) for m in columns),
        f"{number(entry.get('num_fake'))} / {number(entry.get('num_real'))}",
        number(entry.get("seconds"), 3),
    ]
