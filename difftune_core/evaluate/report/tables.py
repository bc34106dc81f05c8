"""The page's figures: headline tiles, the scale between floor and ceiling, the table of everything measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from difftune_core.config.figures import Figure
from difftune_core.evaluate.best import Entry, figure
from difftune_core.evaluate.report.entries import (
    REFERENCES,
    Report,
    base_figure,
    has,
    is_controlled,
    is_of_few,
    is_of_forgetting,
    measures,
    result_of,
)
from difftune_core.evaluate.report.numbers import number, with_error
from difftune_core.evaluate.report.scale import Mark, Scale, place

_MEANINGS = {
    "base_model": "The base model, label table of the target, before the first step.",
    "real_vs_real": "Two parts of the held-out images: what equally good images would score, at this count.",
    "autoencoder_floor": "Held-out images encoded and decoded: what the autoencoder costs, however good the samples.",
}
_MEANINGS_OF_CONTROLS = {
    "base_model": "The base model without a control.",
    "real_vs_real": "Two parts of the held-out images; agreement is of their own controls drawn anew, trivially high.",
}
_GUIDANCE = {
    "none": "The class branch alone, from the same seeds.",
    "domain": "Guided away from the base model's null branch, from the same seeds.",
    "cfg": "Guided away from its own null branch, from the same seeds.",
}
_MAX_COLUMNS = 6
Extra = tuple[str, Callable[[Entry], str]]
_IMAGES: Extra = (
    "Images (judged / real)",
    lambda entry: f"{number(entry.get('num_fake'))} / {number(entry.get('num_real'))}",
)
_SECONDS: Extra = ("Seconds", lambda entry: number(entry.get("seconds"), 3))
ERROR_MEANING = "± is one standard error over the choice of images; it does not cover seeds of training."


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
    meaning: str = ""
    is_result: bool = False
    cells: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """Figures by name of row and column."""

    columns: list[str]
    rows: list[TableRow]


def tiles(report: Report) -> list[Tile]:
    """The result's figures, each beside the references."""
    result, shown = result_of(report), []
    for measure in measures(report):
        value = figure(result, measure.key)
        if "tile" not in measure.shown or (value is None and measure.key not in result):
            continue
        title = measure.headline or measure.label
        shown.append(Tile(title, with_error(value, result.get(f"{measure.key}_se")), _beside(report, measure)))
    images = report.get("curves", {}).get("target_images", [])
    if images:
        step, count = (result["step"], result["target_images"]) if "target_images" in result else images[-1]
        shown.append(Tile("Target images seen", number(int(count)), f"in {number(int(step))} steps"))
    return shown


def _beside(report: Report, measure: Figure) -> str:
    if figure(result_of(report), measure.key) is None:
        return "not measured: see the notes"
    if measure.detail:
        return measure.detail
    base = number(base_figure(report, measure.key), 3)
    if is_of_forgetting(measure):
        return f"base model itself {base}"
    limit = figure(report.get("references", {}).get(measure.limit, {}), measure.key)
    few = "too few images, see the notes; " if is_of_few(result_of(report), measure.key) else ""
    return f"{few}base model {base}, {REFERENCES[measure.limit].lower()} {number(limit, 3)}"


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


def tables(report: Report) -> list[Table]:
    """A row for each evaluation, further guidance and reference; forgetting apart where all would be too wide."""
    columns = measures(report)
    if len(columns) <= _MAX_COLUMNS:
        return [_table(report, columns, [_IMAGES, _SECONDS])] if report.get("evaluations") else []
    quality, forgetting = ([m for m in columns if is_of_forgetting(m) is apart] for apart in (False, True))
    return [_table(report, quality, []), _table(report, forgetting, [_IMAGES, _SECONDS])]


def glossary(report: Report) -> list[tuple[str, str]]:
    """What the columns mean."""
    return [(m.label, m.explained) for m in measures(report)]


def _table(report: Report, columns: list[Figure], more: list[Extra]) -> Table:
    references, result = report.get("references", {}), result_of(report)
    meanings = _MEANINGS | (_MEANINGS_OF_CONTROLS if is_controlled(report) else {})
    rows: list[tuple[TableRow, Entry]] = []
    for entry in report.get("evaluations", []):
        rows.append((TableRow(_name(report, entry), is_result=entry["step"] == result["step"]), entry))
        rows += _guidance_rows(entry)
    for key, name in REFERENCES.items():
        if key in references:
            rows.append((TableRow(name, meanings[key]), references[key]))
            rows += _guidance_rows(references[key])
    shown = [(row, entry) for row, entry in rows if any(has(entry, m.key) for m in columns)]
    filled = [replace(row, cells=_cells(entry, columns, more)) for row, entry in shown]
    return Table([*(m.label for m in columns), *(title for title, _ in more)], filled)


def _name(report: Report, entry: Entry) -> str:
    best = report.get("best") or {}
    name = f"After step {number(entry['step'])}"
    name += f", best {best['metric']}" if best.get("step") == entry["step"] else ""
    return f"{name}, delivered" if report.get("delivered_step") == entry["step"] else name


def _guidance_rows(entry: Entry) -> list[tuple[TableRow, Entry]]:
    found: dict[str, Entry] = entry.get("other_guidance", {})
    return [(TableRow(f"\u21b3 guidance {name}", _GUIDANCE[name]), other) for name, other in found.items()]


def _cells(entry: Entry, columns: list[Figure], more: list[Extra]) -> list[str]:
    own = [
        with_error(figure(entry, m.key), entry.get(f"{m.key}_se"))
        + (", too few images" if is_of_few(entry, m.key) else "")
        for m in columns
    ]
    return own + [cell(entry) for _, cell in more]
