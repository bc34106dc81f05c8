"""Scikit-learn's handwritten digits (8x8, 1,797 of them) as two zips of class folders."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN_PER_CLASS = 20
_LEVELS = 16


@dataclass(frozen=True)
class DigitZips:
    """Where the two archives lie and how many images they hold."""

    train: Path
    validation: Path
    num_train: int
    num_validation: int


def write_digits(folder: Path, seed: int, *, per_class: int = TRAIN_PER_CLASS) -> DigitZips:
    """Write `digits-train.zip` (`per_class` of each class, drawn by `seed`) and `digits-validation.zip` (the rest)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = {int(i) for label in range(10) for i in order[labels[order] == label][:per_class]}
    rest = set(range(len(labels))) - chosen
    folder.mkdir(parents=True, exist_ok=True)
    train, validation = folder / "digits-train.zip", folder / "digits-validation.zip"
    _write(train, images, labels, sorted(chosen))
    _write(validation, images, labels, sorted(rest))
    return DigitZips(train, validation, len(chosen), len(rest))


def _write(path: Path, images: np.ndarray, labels: np.ndarray, indices: Iterable[int]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in indices:
            pixels = np.round(images[i].reshape(8, 8) * (255 / _LEVELS)).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            archive.writestr(f"{labels[i]}/{i:04d}.png", buffer.getvalue())
