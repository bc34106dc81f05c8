"""Draws a scene: its picture, caption and control maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from cli.demo.scenes.captions import caption
from cli.demo.scenes.cast import FIRST_SOLID, View, cast, shade
from cli.demo.scenes.controls import true_controls
from cli.demo.scenes.worlds import Scene, Split, WorldName, draw_scene

SIZE = 64
_SAMPLES = 2  # a side, per pixel
_MIN_SHARE = 0.004  # of the picture, from which a solid is named


@dataclass(frozen=True)
class Picture:
    """An image with what is known about it."""

    image: UInt8[np.ndarray, "size size 3"]
    caption: str
    controls: dict[str, UInt8[np.ndarray, "size size 3"]]
    """Condition -> its true map (see `controls`)."""


class Scenes:
    """The pictures of one world and split, by their number.

    Args:
        world: `a` or `b`.
        seed: pictures of different seeds are independent.
        split: training or held out.
        size: pixels a side.
    """

    def __init__(self, world: WorldName, seed: int = 0, split: Split = Split.TRAIN, *, size: int = SIZE) -> None:
        self._world, self._seed, self._split, self._size = world, seed, split, size

    def scene(self, index: int) -> Scene:
        """Scene number `index`, from 0."""
        return draw_scene(self._seed, self._split, index, self._world)

    def picture(self, index: int) -> Picture:
        """Image, caption and all control maps."""
        scene = self.scene(index)
        fine = cast(scene, self._size * _SAMPLES)
        controls = true_controls(scene, cast(scene, self._size))
        return Picture(average(shade(scene, fine)), caption(scene, visible(scene, fine)), controls)

    def image(self, index: int) -> tuple[UInt8[np.ndarray, "size size 3"], str]:
        """Image and caption alone."""
        scene = self.scene(index)
        fine = cast(scene, self._size * _SAMPLES)
        return average(shade(scene, fine)), caption(scene, visible(scene, fine))


def average(samples: Float32[np.ndarray, "3 two_h two_w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels, each the mean of 2 x 2 samples in [0, 1]."""
    total = samples[:, ::2, ::2] + samples[:, 1::2, ::2] + samples[:, ::2, 1::2] + samples[:, 1::2, 1::2]
    return np.ascontiguousarray(np.rint(total * np.float32(255 / _SAMPLES**2)).astype(np.uint8).transpose(1, 2, 0))


def visible(scene: Scene, view: View) -> list[int]:
    """Numbers of the solids that fill 0.4 % of the view or more; the largest one, where none does."""
    counts = np.bincount(view.thing.ravel(), minlength=FIRST_SOLID + len(scene.solids))[FIRST_SOLID:]
    seen = np.flatnonzero(counts >= _MIN_SHARE * view.thing.size)
    return [int(number) for number in seen] or [int(counts.argmax())]
