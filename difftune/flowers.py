"""Drawn flowers: a small data set to try things with."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SIZE = 64
_SMOOTH = 4  # drawn so many times as large, then made smaller


@dataclass(frozen=True)
class _Flower:
    """A kind of flower: how many petals, their length and width as shares of the picture, and its colours."""

    petals: tuple[int, int]
    length: float
    width: float
    petal: tuple[int, int, int]
    centre: tuple[int, int, int]
    centre_share: float


_FLOWERS = {
    "cornflower": _Flower((9, 12), 0.34, 0.10, (70, 90, 215), (60, 40, 130), 0.10),
    "daisy": _Flower((12, 18), 0.38, 0.08, (245, 245, 240), (245, 200, 40), 0.12),
    "poppy": _Flower((4, 5), 0.34, 0.30, (215, 45, 35), (40, 25, 30), 0.08),
    "sunflower": _Flower((16, 22), 0.40, 0.10, (245, 190, 30), (95, 60, 25), 0.19),
}


KINDS = tuple(_FLOWERS)
"""Names of the classes."""


def sample_data(path: str | Path, *, per_class: int = 40, seed: int = 0) -> Path:
    """Write a zip of drawn flowers, a folder for each kind, and return its path.

    Args:
        path: of the zip; what is there stays.
        per_class: flowers of each kind.
        seed: another number draws other flowers, for held-out images.

    Raises:
        FileExistsError: there is something at `path`.
    """
    import numpy as np

    random, target = np.random.default_rng(seed), Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "x") as archive:
        for kind, flower in _FLOWERS.items():
            for number in range(per_class):
                archive.writestr(f"{kind}/{number:04d}.png", _drawn(flower, random))
    return target


def _drawn(flower: _Flower, random: np.random.Generator) -> bytes:
    """A PNG of one flower on a meadow: place, size, turn, petals and colours vary."""
    from PIL import Image, ImageDraw

    side = _SIZE * _SMOOTH
    image = Image.new("RGB", (side, side), _varied((95, 140, 75), random))
    draw = ImageDraw.Draw(image)
    middle = side * random.uniform(0.44, 0.56, size=2)
    size, turn = side * random.uniform(0.85, 1.1), random.uniform(0, 2 * math.pi)
    count, colour = int(random.integers(*flower.petals, endpoint=True)), _varied(flower.petal, random)
    for petal in range(count):
        angle = turn + 2 * math.pi * petal / count
        light = random.uniform(0.86, 1.0)
        shade = tuple(int(part * light) for part in colour)
        draw.polygon(_petal(middle, angle, flower.length * size, flower.width * size), fill=shade)
    radius = flower.centre_share * size
    draw.ellipse((*(middle - radius), *(middle + radius)), fill=_varied(flower.centre, random))
    buffer = io.BytesIO()
    image.resize((_SIZE, _SIZE), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def _petal(middle: np.ndarray, angle: float, length: float, width: float) -> list[tuple[float, float]]:
    """The outline of a petal from the middle outwards: two arcs of half a sine."""
    import numpy as np

    along = np.linspace(0.0, 1.0, 12)
    across = np.sin(along * math.pi) * width / 2
    out, side = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    left = middle + np.outer(along * length, out) + np.outer(across, side)
    right = middle + np.outer(along * length, out) - np.outer(across, side)
    return [(float(x), float(y)) for x, y in [*left, *right[::-1]]]


def _varied(colour: tuple[int, int, int], random: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(part) for part in random.normal(colour, 12).clip(0, 255))
