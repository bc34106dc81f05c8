"""Image grids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from difftune_core.data.pixels import ImageRows

_PLACE = 440  # pixels of a page's column
_MAX_SCALE = 4
_GAP = 1  # pixels of an image between two; scaled with them, transparent


def image_grid(
    images: UInt8[np.ndarray, "n h w 3"], columns: int, scale: int = 1, *, empty: Bool[np.ndarray, " n"] | None = None
) -> Image.Image:
    """Images row by row in `columns` columns, each pixel shown as `scale` x `scale`; gaps are transparent.

    Args:
        images: in order; those that `empty` marks stand for none and leave a gap.
        columns: images in a row.
        scale: pixels of the grid for one of an image, in width and height.
        empty: which places stay empty.

    Raises:
        ValueError: there is no image, or columns or scale is below 1.
    """
    if len(images) == 0 or columns < 1 or scale < 1:
        raise ValueError("a grid needs images, and at least one column and a scale of 1")
    _, height, width, _ = images.shape
    rows = math.ceil(len(images) / columns)
    columns = min(columns, len(images))
    canvas = np.zeros((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 4), np.uint8)
    for i, image in enumerate(images):
        if empty is not None and empty[i]:
            continue
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        canvas[top : top + height, left : left + width] = np.dstack([image, np.full((height, width), 255, np.uint8)])
    grid = Image.fromarray(canvas)
    return grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST)


def by_class(images: ImageRows, labels: Sequence[int], classes: int, rows: int, scale: int = 1) -> Image.Image | None:
    """The first `rows` images of each of the first `classes` classes, a column each; None where there is none.

    A class with fewer leaves its column open below; there are as many rows as the largest class fills.
    """
    columns = [[i for i, label in enumerate(labels) if label == column][:rows] for column in range(classes)]
    height = max(map(len, columns), default=0)
    if height == 0:
        return None
    places = [column[row] if row < len(column) else None for row in range(height) for column in columns]
    shown = np.stack([images[0 if place is None else place] for place in places])
    return image_grid(shown, classes, scale, empty=np.array([place is None for place in places]))


def stacked(strips: Sequence[Image.Image], scale: int = 1) -> Image.Image:
    """Grids below one another with a gap, each pixel shown as `scale` x `scale`; those of `image_grid` at scale 1."""
    width = max(strip.width for strip in strips)
    whole = Image.new("RGBA", (width, sum(strip.height + _GAP for strip in strips) - _GAP))
    top = 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height + _GAP
    return whole.resize((whole.width * scale, whole.height * scale), Image.Resampling.NEAREST)


def scale_for(columns: int, side: int) -> int:
    """Return how large to draw so that a grid is about as wide as its place on a page, and small images can be seen."""
    return max(1, min(_MAX_SCALE, round(_PLACE / (columns * (side + _GAP)))))
