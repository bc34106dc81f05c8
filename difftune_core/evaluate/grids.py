"""Image grids."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_GAP = 1  # pixels of an image between two; scaled with them, transparent


def image_grid(images: UInt8[np.ndarray, "n h w 3"], columns: int, scale: int = 1) -> Image.Image:
    """Images row by row in `columns` columns, each pixel shown as `scale` x `scale`; gaps are transparent.

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
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        canvas[top : top + height, left : left + width] = np.dstack([image, np.full((height, width), 255, np.uint8)])
    grid = Image.fromarray(canvas)
    return grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST)
