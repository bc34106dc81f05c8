"""The page of a chain of forgetting: what it shows in words, the plot, the figures, the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from difftune_core.config.reports.chain import ChainCheckpoint, ChainReport
from difftune_core.drawing.charts import Chart, Point, Rule, Series, line_chart
from difftune_core.drawing.numbers import number, with_error
from difftune_core.evaluate.report.chain_picture import chain_picture
from difftune_core.evaluate.report.entries import is_of_few
from difftune_core.evaluate.report.heading import heading
from difftune_core.evaluate.report.tables import Tile
from difftune_core.evaluate.report.view import how_made
from difftune_core.evaluate.report.write import data_uri, plain, render, write_json
from difftune_core.files import write_durably

JSON_FILE = "chain.json"
HTML_FILE = "chain.html"
PNG_FILE = "chain.png"
_X_LABEL = "% of the steps by the base model"
_SCALE = 2


@dataclass(frozen=True)
class Row:
    """A share and, checkpoint by checkpoint, FID, its change and KID."""

    share: str
    steps: str
    cells: list[str]


@dataclass(frozen=True)
class Block:
    """The images of a checkpoint, a row for each share, a column for each class."""

    title: str
    src: str
    width: int
    rows: list[str]
    columns: list[str]
    note: str


def write_chain_report(result: dict[str, Any], grids: Mapping[str, Image.Image], out: Path) -> None:
    """Write `chain.json`, `chain.html` and `chain.png`.

    Args:
        result: of the analysis: parts of a `ChainReport`.
        grids: name of a checkpoint to its images, a row for each share, transparent between images.
        out: where to.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = plain(result)
    report = ChainReport.model_validate(data)
    write_json(data, out / JSON_FILE)
    write_durably(out / HTML_FILE, chain_page(report, grids).encode())
    shares = [share.replace("\u202f", " ") for share in _shares(report)]
    chain_picture(grids, shares, list(report.class_names)).save(out / PNG_FILE)


def chain_page(report: ChainReport, grids: Mapping[str, Image.Image]) -> str:
    """The page as HTML that needs nothing beside it."""
    checkpoints = report.checkpoints
    every_point = [point for checkpoint in checkpoints for point in checkpoint.points]
    return render(
        "chain.html.j2",
        heading=heading(f"Chain of forgetting of {report.base_model['id']}", report.about),
        summary=_summary(report),
        tiny=not report.comparable_with_published,
        extractor=report.recipe.feature_extractor,
        findings=[finding(checkpoint) for checkpoint in checkpoints],
        tiles=[_tile(checkpoint) for checkpoint in checkpoints],
        charts=_charts(checkpoints),
        names=[checkpoint.name for checkpoint in checkpoints],
        rows=_rows(checkpoints),
        blocks=[_block(name, grid, report) for name, grid in grids.items()],
        how=how_made(report.recipe, every_point),
        warnings=list(dict.fromkeys(warning for point in every_point for warning in point.warnings)),
        facts=[("Base model", report.base_model), ("Environment", report.environment)],
        weights=[(c.name, f"step {number(c.step)}, {c.digest}") for c in checkpoints],
    )


def finding(checkpoint: ChainCheckpoint) -> str:
    """Tell what a line shows, in words."""
    name, found, points = checkpoint.name, checkpoint.minimum, checkpoint.points
    alone, lowest = number(points[0].value("fid")), number(found.fid)
    at = f"the last {_percent(found.fraction)} of the steps"
    low, high = (number(end, 3) for end in found.fid_change_interval)
    if found.fraction == 0:
        text = f"{name}: no part of the chain is better left to the base model; alone it reaches {alone}."
    elif found.is_below_tuned:
        text = (
            f"{name}: FID is lowest with {at} handed to the base model, {lowest} against {alone} of the tuned model "
            f"alone, a change of {number(found.fid_change, 3)} ({low} to {high}): near the data the tuned model "
            "has forgotten what the base model still knows."
        )
    else:
        text = (
            f"{name}: FID is lowest with {at} handed to the base model, {lowest} against {alone} of the tuned model "
            f"alone, which is within the error ({low} to {high})."
        )
    if found.worse_from is None:
        return f"{text} At no share is it measurably worse."
    return f"{text} From {_percent(found.worse_from)} on it is measurably worse."


def _summary(report: ChainReport) -> str:
    return " · ".join(
        [
            ", ".join(checkpoint.name for checkpoint in report.checkpoints),
            f"{number(report.recipe.num_generated)} images at each of {len(report.fractions)} shares",
            f"{number(report.recipe.num_real)} held out",
            f"{len(report.class_names)} classes",
        ]
    )


def _tile(checkpoint: ChainCheckpoint) -> Tile:
    first, last, found = checkpoint.points[0], checkpoint.points[-1], checkpoint.minimum
    lowest = f"lowest {number(found.fid, 3)} at {_percent(found.fraction)}"
    end = f"{number(last.value('fid'), 3)} at {_percent(last.fraction)}"
    few = "too few images, see the notes; " if is_of_few(first, "fid") else ""
    alone = with_error(first.value("fid"), first.error("fid"))
    return Tile(f"{checkpoint.name}, alone", alone, f"{few}{lowest}, {end}")


def _charts(checkpoints: Sequence[ChainCheckpoint]) -> list[Chart]:
    alone = [Rule("tuned model alone", 0)]
    return [
        line_chart("FID on held-out images", _lines(checkpoints, "fid"), x_label=_X_LABEL, show_last=False),
        line_chart(
            "Change in FID by handing over",
            _lines(checkpoints, "fid_change"),
            x_label=_X_LABEL,
            rules=alone,
            show_last=False,
        ),
        line_chart("KID on held-out images", _lines(checkpoints, "kid"), x_label=_X_LABEL, show_last=False),
    ]


def _lines(checkpoints: Sequence[ChainCheckpoint], key: str) -> list[Series]:
    lines = []
    for checkpoint in checkpoints:
        points: list[Point] = [(100 * p.fraction, p.value(key) or 0.0) for p in checkpoint.points]
        lines.append(Series(checkpoint.name, points, [p.error(key) or 0.0 for p in checkpoint.points]))
    return lines


def _rows(checkpoints: Sequence[ChainCheckpoint]) -> list[Row]:
    rows = []
    for points in zip(*(checkpoint.points for checkpoint in checkpoints), strict=True):
        cells = []
        for point in points:
            few = ", too few images" if is_of_few(point, "fid") else ""
            fid, change, kid = (with_error(point.value(key), point.error(key)) for key in ("fid", "fid_change", "kid"))
            cells += [fid + few, change, kid]
        rows.append(Row(_percent(points[0].fraction), number(points[0].base_steps), cells))
    return rows


def _block(name: str, grid: Image.Image, report: ChainReport) -> Block:
    shares = _shares(report)
    columns = round((grid.width + 1) / ((grid.height + 1) / len(shares)))  # images are square, a pixel between two
    big = grid.resize((grid.width * _SCALE, grid.height * _SCALE), Image.Resampling.NEAREST)
    classes = list(report.class_names)
    note = f"; the first {columns} of {len(classes)} classes" if columns < len(classes) else ""
    return Block(name, data_uri(big), big.width, shares, classes[:columns], note)


def _shares(report: ChainReport) -> list[str]:
    return [_percent(fraction) for fraction in report.fractions]


def _percent(share: float) -> str:
    return f"{100 * share:.4g}\u202f%"
