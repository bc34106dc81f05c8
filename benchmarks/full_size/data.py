"""Small data sets of large pictures."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def write_classes(path: Path, *, size: int, each: int = 6) -> Path:
    """Write an archive of two classes."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(2 * each):
            archive.writestr(f"class-{number % 2}/{number}.png", _png(number, size))
    return path


def write_pairs(path: Path, *, size: int, count: int = 8) -> Path:
    """Write an archive of captioned pictures, each with a control image."""
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            names = {"file_name": f"images/{number}.png", "control_file_name": f"controls/{number}.png"}
            archive.writestr(names["file_name"], _png(number, size))
            archive.writestr(names["control_file_name"], _png(1000 + number, size))
            rows.append(json.dumps({**names, "text": f"picture {number}"}))
        archive.writestr("metadata.jsonl", "\n".join(rows))
    return path


def _png(seed: int, size: int) -> bytes:
    """A picture of coarse random squares."""
    squares = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(squares).resize((size, size), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
