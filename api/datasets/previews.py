"""Small pictures of a data set's images, as its validation has left them: read piece by piece, none is decoded here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from api.errors import not_found
from api.storage import ObjectStore
from difftune_core.config.previews import ENTRY, FIRST, FOOTER, MAGIC, Entry

Role = Literal["image", "control"]
_PNG = b"\x89PNG"


@dataclass(frozen=True)
class Previews:
    """The file of a data set's previews, opened."""

    key: str
    bytes: int
    num_items: int
    num_classes: int

    def entries(self, store: ObjectStore, start: int, end: int) -> list[Entry]:
        """Where the items from place `start` to `end` are; fewer where there are not so many."""
        end = min(end, self.num_items)
        if start >= end:
            return []
        behind = self.bytes - FOOTER.size - self.num_classes * FIRST.size
        at = behind - (self.num_items - start) * ENTRY.size
        found = _read(store, self.key, at, (end - start) * ENTRY.size)
        return [Entry(*values) for values in ENTRY.iter_unpack(found)]

    def firsts(self, store: ObjectStore, count: int) -> Sequence[int]:
        """The places where the first `count` classes begin."""
        at = self.bytes - FOOTER.size - self.num_classes * FIRST.size
        found = _read(store, self.key, at, min(count, self.num_classes) * FIRST.size)
        return [place for (place,) in FIRST.iter_unpack(found)]


def open_previews(store: ObjectStore, key: str) -> Previews | None:
    """The file of previews; None where it is none that this version reads."""
    size = store.stat(key).bytes
    if size < FOOTER.size:
        return None
    magic, num_items, num_classes = FOOTER.unpack(_read(store, key, size - FOOTER.size, FOOTER.size))
    if magic != MAGIC or size < FOOTER.size + num_classes * FIRST.size + num_items * ENTRY.size:
        return None
    return Previews(key, size, num_items, num_classes)


def picture(store: ObjectStore, key: str, place: int, role: Role) -> tuple[bytes, str]:
    """The preview of an item's image or control image as a file, and its media type.

    Raises:
        NotFoundError: there is none.
    """
    opened = open_previews(store, key)
    entries = opened.entries(store, place, place + 1) if opened else []
    if not entries:
        raise not_found("preview", str(place))
    found = entries[0]
    at, size = (found.image, found.image_bytes) if role == "image" else (found.control, found.control_bytes)
    if not size:
        raise not_found("preview", str(place))
    content = _read(store, key, at, size)
    return content, "image/png" if content.startswith(_PNG) else "image/jpeg"


def _read(store: ObjectStore, key: str, at: int, size: int) -> bytes:
    return b"".join(store.read(key, at, at + size)) if size else b""
