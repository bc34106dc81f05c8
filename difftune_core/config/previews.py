"""The file of a data set's previews: small pictures of its items, each found without reading the others.

It has the pictures, one behind the other; then an entry for each item, in the order of `items.jsonl`; then, for each
class in order of its name, the place of its first item; and in the end how many of both there are.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

SIDE = 128
"""The longer side of a preview is at most so many pixels."""
MAGIC = b"dtprev01"
FOOTER = struct.Struct("<8s2I")
"""`MAGIC`, the number of items, and that of classes."""
FIRST = struct.Struct("<I")
ENTRY = struct.Struct("<Q4I")


class Entry(NamedTuple):
    """Where an item and its pictures are: bytes from the beginning of a file; a picture of no bytes is none."""

    line: int
    """Where the item's line begins in `items.jsonl`."""
    image: int = 0
    image_bytes: int = 0
    control: int = 0
    control_bytes: int = 0
