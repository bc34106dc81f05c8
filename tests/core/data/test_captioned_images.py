"""Rows in columns: the same rows, in little more than the bytes of what they say."""

from __future__ import annotations

import hashlib
import tracemalloc

from difftune_core.data.captioned_images import CaptionedImages
from difftune_core.data.items import CaptionedImage


def image(number: int, *, controlled: bool = True) -> CaptionedImage:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    control = (f"c/{number}.png", digest[::-1]) if controlled else (None, None)
    return CaptionedImage(f"{number}.png", f"a picture, {number}é", 64, 48, digest, *control)


def test_columns_give_back_what_was_put_in_sorted_by_path() -> None:
    given = [image(number, controlled=number % 2 == 0) for number in (3, 20, 1)]
    found = CaptionedImages(given).by_path()
    assert list(found) == sorted(given, key=lambda one: one.path)
    assert (found[-1], found[0:1], len(found)) == (given[0], [given[2]], 3)


def test_a_row_takes_little_beside_its_strings() -> None:
    tracemalloc.start()
    kept = CaptionedImages(image(number) for number in range(2_000))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 2_000
    assert taken / len(kept) < 300
