"""Finding JPEG files that were cut and then closed with an end mark, which decoders fill up without a word."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_END = b"\xff\xd9"
_TAIL = 64
_PROBE = bytes((37 * n + 11) % 251 for n in range(256))  # coded data that means something; no byte is 0xff
_CORNER = 2  # pixels at the end of the last row, at any scale within the last two blocks


def is_cut_and_closed(data: bytes, image: Image.Image, draft: tuple[int, int]) -> bool:
    """Return whether the decoder ran out of data before the end mark.

    More data is put in front of the mark: a whole picture has no use for it, one that lacks data shows it. A cut leaves
    blocks of one colour behind, so the second decoding is done only for pictures that end in such, and for progressive
    ones, in which earlier scans lie beneath.

    Args:
        data: the file.
        image: the same, decoded.
        draft: the scale that it was decoded at, as Pillow's `draft` takes it.
    """
    at = data.rfind(_END, max(0, len(data) - _TAIL))
    if at < 0 or not (image.info.get("progressive") or _ends_flat(image)):
        return False
    with Image.open(io.BytesIO(data[:at] + _PROBE + data[at:]), formats=["JPEG"]) as probed:
        probed.draft("RGB", draft)
        probed.load()
        return probed.tobytes() != image.tobytes()


def _ends_flat(image: Image.Image) -> bool:
    corner = image.crop((max(0, image.width - _CORNER), image.height - 1, image.width, image.height))
    pixels = np.asarray(corner).reshape(corner.width, -1)
    return bool((pixels == pixels[0]).all())
