"""Targets of the benchmarks as `train.zip` and `validation.zip` of class folders."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cli.demo.digits import write_digits

if TYPE_CHECKING:
    from difftune_core.tiny.world import World

TARGETS = ("digits", "greek", "cyrillic", "shapes")
"""The scripts: near, printed as the source is, other letters; they need the fonts that `difftune_core.tiny.glyphs` names.
`digits`: letters no more, handwritten. `shapes`: far, scribbles, blobs and gradients in greys and colours."""
_HELD_OUT = 2000


def write_target(name: str, folder: Path, seed: int, *, per_class: int) -> tuple[Path, Path, int]:
    """Write the training images, `per_class` of each class drawn by `seed`, and the held-out ones.

    Returns:
        Both archives, and the number of training images.
    """
    if name == "digits":
        zips = write_digits(folder, seed, per_class=per_class)
        return zips.train, zips.validation, zips.num_train
    from difftune_core.tiny.glyphs import SCRIPTS
    from difftune_core.tiny.world import SHAPES, Split, World

    folder.mkdir(parents=True, exist_ok=True)
    train, validation = folder / "train.zip", folder / "validation.zip"
    num_train = per_class * (len(SHAPES) if name == "shapes" else len(SCRIPTS[name]))
    drawn, held_out = World(seed), World(0, Split.HELD_OUT)  # every seed is judged by the same images
    _write(train, (_render(drawn, index, name) for index in range(num_train)))
    _write(validation, (_render(held_out, index, name) for index in range(_HELD_OUT)))
    return train, validation, num_train


def _render(world: World, index: int, name: str) -> tuple[np.ndarray, int]:
    return world.render_shape(index) if name == "shapes" else world.render_near(index, name)


def _write(path: Path, images: Iterable[tuple[np.ndarray, int]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for index, (pixels, label) in enumerate(images):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            archive.writestr(f"{label:02d}/{index:05d}.png", buffer.getvalue())
