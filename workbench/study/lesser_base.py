"""A base model of lesser quality than the bundled one: the same anatomy and autoencoder, trained for fewer steps."""

from __future__ import annotations

import shutil
from pathlib import Path

from difftune_core.files import build_once
from workbench.tiny.make_card import WEIGHTS, write_card
from workbench.tiny.train_dit import fresh, train

LESSER_BASE = "tiny-dit-brief"
STEPS, IMAGES = 1000, 20_000


def lesser_base(root: Path) -> Path:
    """Train the lesser base model into `root` unless it is there, and return `root`.

    This needs the fonts that `workbench.tiny.glyphs` names.
    """
    build_once(root, _make)
    return root


def _make(root: Path) -> None:
    folder = root / LESSER_BASE
    shutil.copytree(WEIGHTS / "tiny-dit" / "vae", folder / "vae")
    train(fresh(seed=0), folder, IMAGES, seed=0, steps=STEPS)
    write_card(folder)
