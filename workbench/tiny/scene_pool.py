"""Rendered scenes kept in files: rendering is slower than training on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from cli.demo.scenes import Scenes, Split
from difftune_core.files import folder_aside


@dataclass(frozen=True)
class ScenePool:
    """Images of a world with their captions."""

    images: UInt8[np.ndarray, "n 64 64 3"]
    captions: list[str]


def scene_pool(world: Literal["a", "b"], count: int, cache: Path, split: Split = Split.TRAIN) -> ScenePool:
    """The first `count` scenes of a world, rendered once into `cache`."""
    folder = cache / f"scenes-{world}-{split.name.lower()}-{count}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        scenes = Scenes(world, split=split)
        drawn = [scenes.image(index) for index in range(count)]
        with folder_aside(folder) as aside:
            np.save(aside / "images.npy", np.stack([image for image, _ in drawn]), allow_pickle=False)
            (aside / "captions.json").write_text(json.dumps([caption for _, caption in drawn]), encoding="utf-8")
    images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    return ScenePool(images, json.loads((folder / "captions.json").read_text(encoding="utf-8")))
