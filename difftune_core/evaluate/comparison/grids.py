"""Sample grids of several methods, side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from difftune_core.evaluate.comparison.runs import FinishedRun

_MAX_SIDE = 1200  # pixels of one method's grid
_COLUMNS = 4
_GAP, _TITLE = 16, 30  # pixels
_FONT_SIZE = 18
_PAPER, _INK = "white", "black"


@dataclass(frozen=True)
class Panel:
    """One method's grid."""

    method: str
    seed: int
    number: int
    """Place of the method among those of the comparison."""
    image: Image.Image


def panels(runs: list[FinishedRun], seeds: list[int]) -> list[Panel]:
    """The grids of that seed of which most methods have one, in the order of the runs; the first of `seeds` wins."""
    numbers = {method: number for number, method in enumerate(dict.fromkeys(run.method for run in runs))}
    drawn = [run for run in runs if run.samples is not None]
    seed = max(seeds, key=lambda seed: (sum(run.seed == seed for run in drawn), -seeds.index(seed)))
    found = []
    for run in drawn:
        if run.seed == seed and run.samples is not None:
            with Image.open(run.samples, formats=["PNG"]) as opened:
                found.append(Panel(run.method, seed, numbers[run.method], opened.convert("RGBA")))
    return found


def side_by_side(grids: list[Panel]) -> Image.Image:
    """Make one image of all grids, each under the name of its method, four in a row.

    Raises:
        ValueError: there is no grid.
    """
    if not grids:
        raise ValueError("there is no grid")
    images = [_fitting(panel.image) for panel in grids]
    width = max(image.width for image in images) + _GAP
    height = max(image.height for image in images) + _TITLE + _GAP
    columns = min(_COLUMNS, len(images))
    size = columns * width + _GAP, math.ceil(len(images) / columns) * height + _GAP
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_SIZE)
    for i, (panel, image) in enumerate(zip(grids, images, strict=True)):
        left, top = _GAP + i % columns * width, _GAP + i // columns * height
        draw.text((left, top), _cut(f"{panel.method}, seed {panel.seed}", font, image.width), fill=_INK, font=font)
        canvas.paste(image, (left, top + _TITLE), image)
    return canvas


def _fitting(image: Image.Image) -> Image.Image:
    smaller = image.copy()
    smaller.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
    return smaller


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, or as much of its beginning as fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "\u2026") > width:
        text = text[:-1]
    return text + "\u2026"
