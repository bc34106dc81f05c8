"""What identifies a list of images: their contents in order, in both families."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difftune_core.data.archive import Limits
from difftune_core.data.dataset import CaptionedSet, ImageFolder
from difftune_core.data.decoded import Images, Rows
from difftune_core.data.items import CaptionedImage, LabelledImage
from difftune_core.runtime.caches import contents_digest

ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("123")), max_size=6)


@given(ROWS, ROWS)
def test_two_lists_of_contents_have_one_digest_where_they_are_one_list(
    rows: list[tuple[str, str]], others: list[tuple[str, str]]
) -> None:
    assert (contents_digest(rows) == contents_digest(others)) == (rows == others)


def test_parts_of_a_set_still_have_the_names_of_version_0_3_0_for_runs_that_it_began() -> None:
    pixels, indices = np.zeros((8, 2, 2, 3), np.uint8), torch.tensor([1, 2, 5])
    images = Images(pixels, tuple((str(n), str(n)) for n in range(8)), "set", torch.arange(8))
    rows = Rows(pixels, tuple((str(n), str(n), None) for n in range(8)), "set", None)
    of_rows = hashlib.sha256(b'["set","kept",[1,2,5]]').hexdigest()
    for whole, name in ((images, "set:kept:3:8"), (rows, of_rows)):
        assert whole.earlier_digest_of(indices, "kept") == name
        assert whole.subset(indices, "kept").earlier_digest == name


@given(st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)))
def test_parts_of_a_set_have_one_digest_where_they_are_one_part(one: set[int], other: set[int]) -> None:
    """Whatever their number and the sum of their places; both families."""
    pixels = np.stack([np.full((2, 2, 3), n, np.uint8) for n in range(8)])
    images = Images(pixels, tuple((str(n % 2), f"image {n}") for n in range(8)), "", torch.arange(8) % 2)
    rows = Rows(pixels, tuple((f"caption {n}", f"image {n}", None) for n in range(8)), "", None)
    for whole in (images, rows):
        found = [whole.subset(torch.tensor(sorted(part), dtype=torch.long), "kept").digest for part in (one, other)]
        assert (found[0] == found[1]) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        [("a dog", "1", "c1"), ("a cat", "2", "c2")],
        [("a cat", "2", "c1"), ("a dog", "1", "c2")],
        [("a cat", "1", "c2"), ("a dog", "2", "c1")],
        [("a cat", "1", None), ("a dog", "2", None)],
        [("a dog", "2", "c2"), ("a cat", "1", "c1")],
    ],
    ids=["captions swapped", "images swapped", "controls swapped", "no controls", "rows swapped"],
)
def test_captioned_rows(other: list[tuple[str, str, str | None]]) -> None:
    rows = [("a cat", "1", "c1"), ("a dog", "2", "c2")]
    assert captioned(other, "b").digest != captioned(rows, "a").digest
    assert captioned(rows, "b").digest == captioned(rows, "a").digest, "whatever the files are called"


def captioned(rows: list[tuple[str, str, str | None]], stem: str) -> CaptionedSet:
    items = [
        CaptionedImage(f"{stem}{n}.png", caption, 8, 8, image, control and f"{stem}{n}-control.png", control)
        for n, (caption, image, control) in enumerate(rows)
    ]
    return CaptionedSet(Path("set.zip"), tuple(items), Limits())


@pytest.mark.parametrize(
    "other",
    [[("dog", "1"), ("cat", "2")], [("cat", "2"), ("cat", "1")], [("cat", "1"), ("cat", "1")], [("cat", "1")]],
    ids=["a label", "the order", "an image", "one less"],
)
def test_class_folders(other: list[tuple[str, str]]) -> None:
    rows = [("cat", "1"), ("cat", "2")]
    assert labelled(other, "b").digest != labelled(rows, "a").digest
    assert labelled(rows, "b").digest == labelled(rows, "a").digest, "whatever the files are called"


def labelled(rows: list[tuple[str, str]], stem: str) -> ImageFolder:
    items = [
        LabelledImage(f"{name}/{stem}{n}.png", name, 9, 8, 8, "PNG", image) for n, (name, image) in enumerate(rows)
    ]
    return ImageFolder(Path("set.zip"), tuple(items), Limits())
