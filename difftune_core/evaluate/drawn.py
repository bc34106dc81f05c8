"""Images that are judged as they are drawn, chunk by chunk, so that all of them never stand in memory."""

from __future__ import annotations

import tempfile

import numpy as np
from jaxtyping import UInt8

from difftune_core.data.pixels import ImageRows, parts_of


def on_disk(images: ImageRows, at_once: int) -> UInt8[np.ndarray, "n s s 3"]:
    """Images made once, in a file without a name that is mapped into memory: for who looks at them twice."""
    with tempfile.TemporaryFile() as file:
        for part in parts_of(images, at_once):
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=images.shape)
