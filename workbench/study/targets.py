"""Targets of the study as `train.zip` and `validation.zip` of class folders."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from cli.demo.digits import write_digits
from difftune_core.files import build_once

TARGETS = ("digits", "greek", "cyrillic", "shapes")
"""The scripts: near, printed as the source is, other letters. `digits`: handwritten. `shapes`: far, scribbles, blobs
and gradients in greys. The scripts need the fonts that `workbench.tiny.glyphs` names."""
_HELD_OUT = 2000


def target_archives(name: str, folder: Path, seed: int, *, per_class: int) -> tuple[Path, Path]:
    """The training images, `per_class` of each class drawn by `seed`, and the held-out ones; made once."""
    build_once(folder, lambda aside: _make(name, aside, seed, per_class))
    prefix = "digits-" if name == "digits" else ""
    return folder / f"{prefix}train.zip", folder / f"{prefix}validation.zip"


def _make(name: str, folder: Path, seed: int, per_class: int) -> None:
    if name == "digits":
        write_digits(folder, seed, per_class=per_class)
        return
    from workbench.tiny.glyphs import SCRIPTS
    from workbench.tiny.world import SHAPES, Split, World

    def render(world: World, count: int) -> Iterable[tuple[np.ndarray, int]]:
        for index in range(count):
            yield world.render_shape(index) if name == "shapes" else world.render_near(index, name)

    classes = len(SHAPES) if name == "shapes" else len(SCRIPTS[name])
    _write(folder / "train.zip", render(World(seed), per_class * classes))
    _write(folder / "validation.zip", render(World(0, Split.HELD_OUT), _HELD_OUT))  # every seed is judged by the same


def _write(path: Path, images: Iterable[tuple[np.ndarray, int]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for index, (pixels, label) in enumerate(images):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            archive.writestr(f"{label:02d}/{index:05d}.png", buffer.getvalue())
