"""Scenes of the synthetic world B with their captions, as zips in the form of Hugging Face's imagefolder."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cli.demo.scenes import Scenes, Split

NUM_TRAIN, NUM_VALIDATION = 400, 128
TRAIN_FILE, VALIDATION_FILE = "scenes-train.zip", "scenes-validation.zip"


@dataclass(frozen=True)
class SceneZips:
    """Where the two archives lie."""

    train: Path
    validation: Path


def write_scenes(
    folder: Path,
    seed: int,
    *,
    num_train: int = NUM_TRAIN,
    num_validation: int = NUM_VALIDATION,
    condition: str | None = None,
) -> SceneZips:
    """Write `TRAIN_FILE`, drawn by `seed`, and `VALIDATION_FILE`, the same for all seeds.

    `condition` adds each scene's true control map; without one the service draws the controls from the pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    train, validation = folder / TRAIN_FILE, folder / VALIDATION_FILE
    _write(train, Scenes("b", seed), num_train, condition)
    _write(validation, Scenes("b", split=Split.HELD_OUT), num_validation, condition)
    return SceneZips(train, validation)


def _write(path: Path, scenes: Scenes, count: int, condition: str | None) -> None:
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            picture = scenes.picture(index)
            row = {"file_name": f"{index:05d}.png", "text": picture.caption}
            _add(archive, row["file_name"], picture.image)
            if condition is not None:
                row["control_file_name"] = f"control/{index:05d}.png"
                _add(archive, row["control_file_name"], picture.controls[condition])
            rows.append(json.dumps(row))
        archive.writestr("metadata.jsonl", "\n".join(rows) + "\n")


def _add(archive: zipfile.ZipFile, name: str, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    archive.writestr(name, buffer.getvalue())
