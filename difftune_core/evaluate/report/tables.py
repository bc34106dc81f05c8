"""The page's figures: headline tiles, the scale between floor and ceiling, the table of everything measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from difftune_core.config.figures import Figure
from difftune_core.config.reports.evaluation import Evaluation, Judged
from difftune_core.config.reports.run import RunReport
from difftune_core.drawing.numbers import number, with_error
from difftune_core.drawing.scale import Mark, Scale, place
from difftune_core.evaluate.report.entries import REFERENCES, is_of_few, is_of_forgetting, measures

_MEANINGS = {
    "base_model": "The base model, label table of the target, before the first step.",
    "real_vs_real": "Two parts of the held-out images: what equally good images would score, at this count.",
    "training_set": "The training images in place of samples: what a perfect copier scores. A result that scores as "
    "well cannot be told from copies by FID.",
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
Extra = tuple[str, Callable[[Judged], str]]
_IMAGES: Extra = (
    "Images (judged / real)",
    lambda entry: f"{number(entry.num_fake)} / {number(entry.num_real)}",
)
_SECONDS: Extra = ("Seconds", lambda entry: number(entry.value("seconds"), 3))
ERROR_MEANING = "± is one standard error over the choice of images; it does not cover seeds of training."


@dataclass(frozen=True)
class Tile:
    """A headline figure, and what is to be said below it."""

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


def tiles(report: RunReport) -> list[Tile]:
    """The result's figures, each beside the references."""
    result, shown = report.result or Judged(), []
    for measure in measures(report):
        value = result.value(measure.key)
        if "tile" not in measure.shown or (value is None and not result.has_own(measure.key)):
            continue
        title = measure.headline or measure.label
        shown.append(Tile(title, with_error(value, result.error(measure.key)), _beside(report, result, measure)))
    images = report.curves.get("target_images", [])
    if images:
        step, count = images[-1]
        if isinstance(result, Evaluation) and result.target_images is not None:
            step, count = result.step, result.target_images
        shown.append(Tile("Target images seen", number(int(count or 0)), f"in {number(int(step))} steps"))
    return shown


def _beside(report: RunReport, result: Judged, measure: Figure) -> str:
    if result.value(measure.key) is None:
        return "not measured: see the notes"
    if measure.detail:
        return measure.detail
    base = number(report.base_value(measure.key), 3)
    if is_of_forgetting(measure):
        return f"base model itself {base}"
    limit = report.reference(measure.limit).value(measure.key)
    few = "too few images, see the notes; " if is_of_few(result, measure.key) else ""
    return f"{few}base model {base}, {REFERENCES[measure.limit].lower()} {number(limit, 3)}"


def scale(report: RunReport) -> Scale | None:
    """The result's FID between the references'."""
    rows: list[tuple[str, Judged, bool]] = [(name, report.reference(key), False) for key, name in REFERENCES.items()]
    rows += [("This run", report.result or Judged(), True)]
    marks = [
        Mark(name, value, entry.error("fid"), is_result=is_result)
        for name, entry, is_result in rows
        if (value := entry.value("fid")) is not None
    ]
    return place(marks)


def tables(report: RunReport) -> list[Table]:
    """A row for each evaluation, further guidance and reference; forgetting apart where all would be too wide."""
    columns = measures(report)
    if len(columns) <= _MAX_COLUMNS:
        return [_table(report, columns, [_IMAGES, _SECONDS])] if report.evaluations else []
    quality, forgetting = ([m for m in columns if is_of_forgetting(m) is apart] for apart in (False, True))
    return [_table(report, quality, []), _table(report, forgetting, [_IMAGES, _SECONDS])]


def glossary(report: RunReport) -> list[tuple[str, str]]:
    """Return what the columns mean."""
    return [(m.label, m.explained) for m in measures(report)]


def _table(report: RunReport, columns: list[Figure], more: list[Extra]) -> Table:
    meanings = _MEANINGS | (_MEANINGS_OF_CONTROLS if report.is_controlled else {})
    rows: list[tuple[TableRow, Judged]] = []
    for entry in report.evaluations:
        is_result = report.result is not None and entry.step == report.result.step
        rows.append((TableRow(_name(report, entry), is_result=is_result), entry))
        rows += _guidance_rows(entry)
    for key, name in REFERENCES.items():
        if key in report.references:
            rows.append((TableRow(name, meanings[key]), report.references[key]))
            rows += _guidance_rows(report.references[key])
    shown = [(row, entry) for row, entry in rows if any(entry.has(m.key) for m in columns)]
    filled = [replace(row, cells=_cells(entry, columns, more)) for row, entry in shown]
    return Table([*(m.label for m in columns), *(title for title, _ in more)], filled)


def _name(report: RunReport, entry: Evaluation) -> str:
    name = f"After step {number(entry.step)}"
    name += f", best {report.best.metric}" if report.best is not None and report.best.step == entry.step else ""
    return f"{name}, delivered" if report.delivered_step == entry.step else name


def _guidance_rows(entry: Judged) -> list[tuple[TableRow, Judged]]:
    found = entry.other_guidance.items()
    return [(TableRow(f"\u21b3 guidance {name}", _GUIDANCE[name]), other) for name, other in found]


def _cells(entry: Judged, columns: list[Figure], more: list[Extra]) -> list[str]:
    own = [
        with_error(entry.value(m.key), entry.error(m.key)) + (", too few images" if is_of_few(entry, m.key) else "")
        for m in columns
    ]
    return own + [cell(entry) for _, cell in more]
