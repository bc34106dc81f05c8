# ruff: noqa: PLR2004 - the shares and ranges written here are the definition of the worlds
"""Two synthetic worlds of 32 x 32 RGB images, each image a function of (seed, split, index).

The source world is what the bundled DiT is pre-trained on: letters A-Z and a-z, light on dark. The broad world is for
the autoencoder and the feature network, which must not take everything they see for a letter: it adds digits, other
scripts, scribbles, blobs and gradients, in greys and in colour. About half of the images go through the path by
which an 8 x 8 image comes into a data set: 8 x 8, then bicubic to 32 x 32.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from workbench.tiny.glyphs import CANVAS, SCRIPTS, GlyphBank

SIZE = 32
LOW = 8

SOURCE_CLASSES: tuple[str, ...] = tuple(SCRIPTS["latin"])
"""The 52 classes of the source world: A-Z, then a-z."""

SHAPES: tuple[str, ...] = ("scribble", "blobs", "gradient")
"""What the broad world holds beside letters."""
BROAD_CLASSES: tuple[str, ...] = (*(letter for script in SCRIPTS.values() for letter in script), *SHAPES)
"""The classes of the broad world: every letter of `SCRIPTS` in order, then scribble, blobs and gradient."""

_SCRIPT_NAMES = tuple(SCRIPTS)
_SCRIPT_WEIGHTS = np.array([0.30, 0.14, *([0.56 / (len(SCRIPTS) - 2)] * (len(SCRIPTS) - 2))])
_FIRST_CLASS = dict(zip(SCRIPTS, np.cumsum([0, *map(len, SCRIPTS.values())]).tolist(), strict=False))
_SHAPE_WEIGHTS = (0.16, 0.04, 0.04)

Pixels = NDArray[np.uint8]
Levels = NDArray[np.float32]


class Purpose(IntEnum):
    SOURCE = 0
    BROAD = 1
    NEAR = 2
    FAR = 3


class Split(IntEnum):
    TRAIN = 0
    HELD_OUT = 1


def low_resolution(image: Image.Image) -> Image.Image:
    """Bring an image down to 8 x 8 by boxes and back to 32 x 32 by bicubic interpolation."""
    low = image.resize((LOW, LOW), Image.Resampling.BOX)
    return low.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


class World:
    """Renders images of both worlds.

    Args:
        seed: the worlds' seed; images of different seeds are independent.
        split: held-out images are drawn from the same distribution and never from the same random numbers.
        fonts: font files to draw from; by default all that the system has.
    """

    def __init__(self, seed: int = 0, split: Split = Split.TRAIN, fonts: Sequence[Path] | None = None) -> None:
        self._seed = seed
        self._split = split
        self._glyphs = GlyphBank(fonts)

    def _rng(self, purpose: Purpose, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, purpose, self._split, index])

    def render_source(self, index: int, label: int | None = None) -> tuple[Pixels, int]:
        """Image number `index` of the source world, uint8 [32, 32, 3], and its class in `SOURCE_CLASSES`.

        Args:
            index: number of the image, from 0.
            label: draws this class in place of a random one.
        """
        rng = self._rng(Purpose.SOURCE, index)
        drawn = int(rng.integers(len(SOURCE_CLASSES)))
        label = drawn if label is None else label
        return self._letter(rng, "latin", SOURCE_CLASSES[label]), label

    def render_near(self, index: int, script: str) -> tuple[Pixels, int]:
        """Image number `index` of a target near the source, and its class: the source's look, another script's letters.

        Classes run through the letters of `SCRIPTS[script]` in turn.
        """
        label = index % len(SCRIPTS[script])
        rng = self._rng(Purpose.NEAR, index)
        return self._letter(rng, script, SCRIPTS[script][label]), label

    def render_shape(self, index: int) -> tuple[Pixels, int]:
        """Image number `index` of a target far from the source, and its class in `SHAPES`: the broad world's shapes.

        In greys, since the autoencoder holds colours badly. Classes come in turn.
        """
        rng, label = self._rng(Purpose.FAR, index), index % len(SHAPES)
        grey = _to_pixels(_colour(rng, _DRAWERS[label](rng)).mean(axis=2, keepdims=True))
        return np.repeat(grey, 3, axis=2), label

    def _letter(self, rng: np.random.Generator, script: str, letter: str) -> Pixels:
        low = bool(rng.random() < 0.5)
        mask = self._glyph(rng, script, letter, low=low, angle=15.0)
        ground = rng.uniform(0.0, 0.15) * (rng.random() < 0.7)
        ink = rng.uniform(0.6, 1.0)
        grey = Image.fromarray(_to_pixels(ground + (ink - ground) * mask))
        if low:
            grey = low_resolution(grey)
        return np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)

    def render_broad(self, index: int) -> tuple[Pixels, int]:
        """Image number `index` of the broad world, uint8 [32, 32, 3], and its class in `BROAD_CLASSES`."""
        rng = self._rng(Purpose.BROAD, index)
        low = bool(rng.random() < 0.45)
        shape, which = _pick_shape(rng)
        if shape is None:
            script = _SCRIPT_NAMES[int(rng.choice(len(_SCRIPT_NAMES), p=_SCRIPT_WEIGHTS))]
            letter = int(rng.integers(len(SCRIPTS[script])))
            label = _FIRST_CLASS[script] + letter
            mask = self._glyph(rng, script, SCRIPTS[script][letter], low=low, angle=20.0)
        else:
            label = len(BROAD_CLASSES) - len(SHAPES) + which
            mask = shape(rng)
        levels = _colour(rng, mask)
        if rng.random() < 0.2:
            levels = levels + rng.normal(0.0, rng.uniform(0.0, 0.04), levels.shape).astype(np.float32)
        image = Image.fromarray(_to_pixels(levels))
        return np.array(low_resolution(image) if low else image), label

    def source_batch(self, start: int, count: int) -> tuple[Pixels, NDArray[np.int64]]:
        """Source images `start` to `start + count` as uint8 [count, 32, 32, 3], and their classes [count]."""
        return _stack([self.render_source(index) for index in range(start, start + count)])

    def broad_batch(self, start: int, count: int) -> tuple[Pixels, NDArray[np.int64]]:
        """Broad images `start` to `start + count` as uint8 [count, 32, 32, 3], and their classes [count]."""
        return _stack([self.render_broad(index) for index in range(start, start + count)])

    def _glyph(self, rng: np.random.Generator, script: str, letter: str, *, low: bool, angle: float) -> Levels:
        """A glyph's coverage [32, 32] in [0, 1] after a random affine map and a change of stroke."""
        mask = self._glyphs.mask(script, letter, int(rng.integers(len(self._glyphs.fonts(script)))))
        # At 8 x 8 an image is filled by its letter, as in the collections of small handwritten digits.
        scale = rng.uniform(1.0, 1.4) if low else rng.uniform(0.75, 1.2)
        coefficients = _affine(rng, scale, angle)
        mapped = mask.transform((CANVAS, CANVAS), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        return _halve(_restroke(rng, mapped, bold=low))


def _stack(images: list[tuple[Pixels, int]]) -> tuple[Pixels, NDArray[np.int64]]:
    return np.stack([image for image, _ in images]), np.array([label for _, label in images], dtype=np.int64)


def _to_pixels(levels: Levels) -> Pixels:
    return (np.clip(levels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _halve(mask: Image.Image) -> Levels:
    return np.asarray(mask.reduce(2), dtype=np.float32) / 255.0


def _affine(rng: np.random.Generator, scale: float, angle: float) -> tuple[float, ...]:
    """Coefficients of PIL's inverse map (output to input pixels) for rotation, shear, scale and shift."""
    turn, shear = np.radians(rng.uniform(-angle, angle)), rng.uniform(-0.2, 0.2)
    aspect = np.exp(rng.uniform(-0.15, 0.15))
    cos, sin = np.cos(turn), np.sin(turn)
    forward = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, shear], [0.0, 1.0]])
    forward = forward @ np.diag([scale * aspect, scale / aspect])
    back = np.linalg.inv(forward)
    centre = CANVAS / 2
    shift = rng.uniform(-4.0, 4.0, 2)
    offset = centre - back @ (centre + shift)
    return (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])


def _restroke(rng: np.random.Generator, mask: Image.Image, *, bold: bool) -> Image.Image:
    """Thinner, thicker or softer strokes, or the mask as it is; where bold, thick ones in half of the cases."""
    if bold and rng.random() < 0.5:
        return mask.filter(ImageFilter.MaxFilter(5))
    kind = rng.random()
    if kind < 0.15:
        return mask.filter(ImageFilter.MaxFilter(3))
    if kind < 0.3:
        return mask.filter(ImageFilter.MaxFilter(5))
    if kind < 0.4:
        return mask.filter(ImageFilter.MinFilter(3))
    if kind < 0.65:
        return mask.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 3.0)))
    return mask


def _pick_shape(rng: np.random.Generator) -> tuple[Callable[[np.random.Generator], Levels] | None, int]:
    at = rng.random()
    for which, edge in enumerate(np.cumsum(_SHAPE_WEIGHTS)):
        if at < edge:
            return _DRAWERS[which], which
    return None, -1


def _scribble(rng: np.random.Generator) -> Levels:
    """Draw one to three strokes along random Bezier curves, as of a pen."""
    image = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    width = int(rng.integers(2, 13))
    t = np.linspace(0.0, 1.0, 24)[:, None]
    start = rng.uniform(4, CANVAS - 4, 2)
    for _ in range(int(rng.integers(1, 4))):
        a, b, end = rng.uniform(-10, CANVAS + 10, 2), rng.uniform(-10, CANVAS + 10, 2), rng.uniform(4, CANVAS - 4, 2)
        curve = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3 * end
        draw.line([(float(x), float(y)) for x, y in curve], fill=255, width=width, joint="curve")
        start = end if rng.random() < 0.6 else rng.uniform(4, CANVAS - 4, 2)
    return _halve(_restroke(rng, image, bold=False))


def _blobs(rng: np.random.Generator) -> Levels:
    """Ellipses of different greys, softened."""
    image = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 6))):
        (x, y), (w, h) = rng.uniform(0, CANVAS, 2), rng.uniform(4, 24, 2)
        draw.ellipse((x - w, y - h, x + w, y + h), fill=int(rng.integers(60, 256)))
    return _halve(image.filter(ImageFilter.BoxBlur(rng.uniform(0.0, 6.0))))


def _gradient(rng: np.random.Generator) -> Levels:
    """A smooth random surface: a few random levels, interpolated."""
    side = int(rng.integers(2, 7))
    coarse = Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32) / 255.0


_DRAWERS: tuple[Callable[[np.random.Generator], Levels], ...] = (_scribble, _blobs, _gradient)
"""How each of `SHAPES` is drawn."""


def _colour(rng: np.random.Generator, mask: Levels) -> Levels:
    """Ink and ground [32, 32, 3]: greys light on dark, greys dark on light, or two colours."""
    kind = rng.random()
    if kind < 0.45:
        ground, ink = np.full(3, rng.uniform(0, 0.3) * (rng.random() < 0.7)), np.full(3, rng.uniform(0.5, 1.0))
    elif kind < 0.6:
        ground, ink = np.full(3, rng.uniform(0.6, 1.0)), np.full(3, rng.uniform(0, 0.4))
    else:
        ground, ink = rng.random(3), rng.random(3)
        if np.abs(ground - ink).max() < 0.35:
            ink = np.where(ground > 0.5, ground - 0.45, ground + 0.45)
    back = np.broadcast_to(ground, (SIZE, SIZE, 3))
    if rng.random() < 0.12:
        back = back + 0.3 * (_gradient(rng)[:, :, None] - 0.5)
    levels: Levels = (back + (ink - back) * mask[:, :, None]).astype(np.float32)
    return levels
