"""Copies of a picture: on one side of a split, counted where they are on both, in both families."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difftune_core.data.copies import Copies, copy_keys, count_copies
from difftune_core.data.holdout import chosen_split, split_by_class, split_rows
from difftune_core.hooks import TaskError
from difftune_core.runtime.rng import generator

PICTURES = st.lists(st.integers(0, 6), min_size=2, max_size=40)
"""Which picture each image shows."""


def keys(pictures: list[int]) -> list[bytes]:
    return copy_keys(np.stack([np.full((2, 2, 3), number, np.uint8) for number in pictures]))


def labels_of(pictures: list[int], seed: int) -> torch.Tensor:
    """A class for each image, whatever it shows; each class has two images at least."""
    drawn = np.random.default_rng(seed).integers(0, 3, len(pictures))
    return torch.tensor([label if (drawn == label).sum() > 1 else 9 for label in drawn])


@given(PICTURES, st.integers(0, 2**31 - 1), st.sampled_from([0.01, 0.1, 0.3, 0.5, 0.9]))
def test_copies_are_on_one_side_and_each_class_keeps_an_image(pictures: list[int], seed: int, fraction: float) -> None:
    labels = labels_of(pictures, seed)
    kept, held_out = split_by_class(labels, fraction, seed, keys(pictures))
    assert sorted([*kept.tolist(), *held_out.tolist()]) == list(range(len(pictures)))
    assert {pictures[i] for i in kept}.isdisjoint(pictures[i] for i in held_out)
    assert set(labels[kept].tolist()) == set(labels.tolist())


@given(PICTURES, st.integers(0, 2**31 - 1), st.sampled_from([0.1, 0.5]))
def test_copies_of_captioned_images_are_on_one_side(pictures: list[int], seed: int, fraction: float) -> None:
    kept, held_out = split_rows(len(pictures), fraction, seed, 2, keys(pictures))
    assert len(kept)
    assert {pictures[i] for i in kept}.isdisjoint(pictures[i] for i in held_out)
    if len(set(pictures)) > 1:
        assert len(held_out)


@given(st.integers(3, 40), st.integers(0, 2**31 - 1), st.sampled_from([0.01, 0.1, 0.3, 0.9]))
def test_without_copies_the_split_is_that_of_before(count: int, seed: int, fraction: float) -> None:
    """Of each class the first of a random order, `fraction` of them, one at least and never all."""
    labels = torch.arange(count) % 2
    distinct = [str(number).encode() for number in range(count)]
    held_out = []
    for label in (0, 1):
        members = torch.nonzero(labels == label).flatten()
        order = members[torch.randperm(len(members), generator=generator(seed, "holdout", label))]
        held_out += order[: min(max(1, round(fraction * len(members))), len(members) - 1)].tolist()
    for found in (split_by_class(labels, fraction, seed, distinct), split_by_class(labels, fraction, seed)):
        assert found[1].tolist() == sorted(held_out)
    order = torch.randperm(count, generator=generator(seed, "holdout"))
    wanted = order[: min(max(2, round(fraction * count)), count - 1)].sort().values
    assert split_rows(count, fraction, seed, 2, distinct)[1].tolist() == wanted.tolist()


def test_a_class_of_one_picture_holds_out_none_and_a_set_of_one_is_refused() -> None:
    class Same:
        def __init__(self, pictures: list[int]) -> None:
            self.keys = keys(pictures)

        def earlier_digest_of(self, indices: torch.Tensor, choice: str) -> str:
            return f"{choice} {indices.tolist()}"

    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    _, held_out = split_by_class(labels, 0.3, 0, keys([7, 7, 7, 1, 2, 3]))
    assert labels[held_out].tolist() == [1]
    images = Same([7, 7, 7, 8, 8, 8])
    with pytest.raises(TaskError, match="give a validation file") as refused:
        chosen_split(images, None, lambda told: split_by_class(labels, 0.3, 0, told))
    assert refused.value.code == "too_few_images"
    earlier = split_by_class(labels, 0.3, 0)
    name = f"kept {earlier[0].tolist()}"
    found = chosen_split(images, name, lambda told: split_by_class(labels, 0.3, 0, told))
    assert found[1].tolist() == earlier[1].tolist(), "a run that 0.3.0 began keeps what it has trained on"


def test_a_picture_is_counted_where_it_occurs_twice() -> None:
    trained, held_out = [1, 2, 2, 3, 4], [3, 3, 5]
    names, others = ["a", "a", "b", "a", "a"], ["a", "a", "a"]
    found = count_copies(keys(trained), keys(held_out), names, others)
    assert found == Copies(num_shared=2, num_repeated=1, num_relabelled=1)
    shared, *others = found.sentences(3, "class")
    assert shared.startswith("2 of 3 held-out images are training images too: figures are better than ")
    assert others == [
        "1 picture occurs with more than one class.",
        "1 training image is a copy of another.",
    ]
    assert list(Copies(0, 0, 0).sentences(3, "class")) == []
