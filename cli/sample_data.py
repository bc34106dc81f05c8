"""`difftune sample-data`: a small archive of drawn flowers to try the service with."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.settings import failed

if TYPE_CHECKING:
    import numpy as np

_SIZE = 64
_SMOOTH = 4  # drawn so many times as large, then made smaller
Target = Annotated[Path, typer.Argument(help="The zip to write.")]
PerClass = Annotated[int, typer.Option(help="Flowers of each kind.", min=1, max=10_000)]
Seed = Annotated[int, typer.Option(help="Another number draws other flowers: held-out images, say.", min=0)]


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


def sample_data(target: Target, *, per_class: PerClass = 40, seed: Seed = 0) -> None:
    """Write a zip of drawn flowers, a folder for each kind: images to try the service with."""
    import numpy as np

    if target.exists():
        raise failed(f"{target} exists already")
    random = np.random.default_rng(seed)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(target, "w") as archive:
            for kind, flower in _FLOWERS.items():
                for number in range(per_class):
                    archive.writestr(f"{kind}/{number:04d}.png", _drawn(flower, random))
    except OSError as error:
        raise failed(f"{target} cannot be written: {error.strerror}") from None
    typer.echo(f"{target}: {per_class} pictures of each of {', '.join(_FLOWERS)}")


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
