"""The training images as a judge sees them: looked at once in a stream, and kept for all jobs that train on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difftune_core.data.pixels import ImageRows, chosen, parts_of, pixels_digest
from difftune_core.evaluate.copying import SIDE, Seen, small_pictures, spread_rows
from difftune_core.evaluate.extractor import FeatureExtractor
from difftune_core.files import build_once
from difftune_core.runtime.caches import place_of

_FORMAT = 1
_AT_ONCE = 256
_FEATURES, _PICTURES = "features.npy", "pictures.npy"


@dataclass(frozen=True)
class TrainingImages:
    """Images that a run trains on, and the cache where what is seen of them is kept."""

    images: ImageRows
    cache: Path

    def __len__(self) -> int:
        """Number of images, also of those that are not looked at."""
        return len(self.images)

    def seen(self, extractor: FeatureExtractor) -> Seen:
        """Features and small pictures of at most 10,000 of them, spread evenly over all."""
        places = spread_rows(len(self.images))
        inputs = {
            "format": _FORMAT,
            "images": pixels_digest(self.images),
            "count": len(places),
            "extractor": extractor.contents,
            "side": SIDE,
        }

        def build(aside: Path) -> None:
            found = look_at(chosen(self.images, places.tolist()), extractor)
            np.save(aside / _FEATURES, found.features)
            np.save(aside / _PICTURES, found.pictures)

        folder = build_once(place_of(self.cache, "features", inputs), build)
        return Seen(np.load(folder / _FEATURES), np.load(folder / _PICTURES))


def look_at(images: ImageRows, extractor: FeatureExtractor) -> Seen:
    """Features and small pictures of images, part by part."""
    seen = [(extractor(part), small_pictures(part)) for part in parts_of(images, _AT_ONCE)]
    return Seen(*(np.concatenate(parts) for parts in zip(*seen, strict=True)))
