"""Writing the report: one JSON file, one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from difftune_core.config.reports.record import Record
from difftune_core.config.reports.run import SCHEMA_VERSION, RunReport
from difftune_core.evaluate.report.view import context
from difftune_core.files import write_durably

JSON_FILE = "report.json"
HTML_FILE = "report.html"
_MAX_LOSSLESS_BYTES = 100_000  # above this a grid is shown with losses; the files beside the report have none
_MAX_GRID_SIDE = 1600
_WEBP_QUALITY = 80


@dataclass(frozen=True)
class Grid:
    """Images as the page shows them, rows and columns under their names."""

    title: str
    image: Image.Image
    columns: list[str]
    rows: list[str]
    note: str

    @classmethod
    def of(cls, described: dict[str, Any], image: Image.Image) -> Grid:
        """Make the picture of an entry of the report's `grids`."""
        columns, rows = list(described.get("columns", [])), list(described.get("rows", []))
        return cls(str(described["title"]), image, columns, rows, described.get("note", ""))

    @property
    def width(self) -> int:
        """Pixels of the page that the grid takes, where there is room."""
        return self.image.width

    @property
    def src(self) -> str:
        """The image as an address that needs no network."""
        return data_uri(self.image)


def write_report(report: dict[str, Any], out: Path) -> None:
    """Write `report.json` and `report.html` into `out`.

    Args:
        report: parts of a `difftune_core.config.reports.run.RunReport`; what is missing is left out of the page. Its
            `grids` are [{"title", "image" or "path_png"; "columns" and "rows" name them, "note" says more}, ...].
        out: an existing folder.

    Raises:
        FileNotFoundError: a grid's `path_png` does not exist.
        ValueError: a grid has neither `image` nor `path_png`.
    """
    grids = [Grid.of(grid, _image(grid)) for grid in report.get("grids", [])]
    described = [{"title": grid.title, "width": grid.image.width, "height": grid.image.height} for grid in grids]
    data = plain({"schema_version": SCHEMA_VERSION, **report, "grids": described})
    page = _html(RunReport.model_validate(data), grids)
    write_json(data, out / JSON_FILE)
    write_durably(out / HTML_FILE, page.encode())


def write_json(data: dict[str, Any], path: Path) -> None:
    """Write what `plain` made."""
    text = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)
    write_durably(path, text.encode() + b"\n")


def render(template: str, **values: Any) -> str:
    """A page from the templates; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("difftune_core.evaluate.report", "templates"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def _html(report: RunReport, grids: list[Grid]) -> str:
    return render("report.html.j2", **context(report), grids=grids)


def _image(grid: dict[str, Any]) -> Image.Image:
    image = grid.get("image")
    if isinstance(image, Image.Image):
        return image
    if not grid.get("path_png"):
        raise ValueError(f"the grid {grid['title']!r} has neither image nor path_png")
    with Image.open(grid["path_png"], formats=["PNG"]) as opened:
        opened.load()
        return opened


def data_uri(image: Image.Image) -> str:
    """WebP of at most 1,600 pixels a side, without losses where that is small."""
    small = image.copy()
    small.thumbnail((_MAX_GRID_SIDE, _MAX_GRID_SIDE), Image.Resampling.LANCZOS)
    data = _webp(small, lossless=True)
    if len(data) > _MAX_LOSSLESS_BYTES:
        data = _webp(small, quality=_WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def _webp(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """Leave only what JSON has: records become objects, tuples lists, paths text, numbers that are none null."""
    if isinstance(value, Record):
        return plain(value.given())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return plain(value.item()) if hasattr(value, "item") else str(value)
