"""Which images of a data set are held out to judge by, where no others were given for that; both families.

Copies of one picture go to one side: held out beside a copy that is trained on, an image would judge memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from difftune_core.data.columns import grouped
from difftune_core.data.copies import Key
from difftune_core.hooks import TaskError
from difftune_core.runtime.rng import generator

Split = tuple[Int[Tensor, " a"], Int[Tensor, " b"]]
"""Indices to train on, and to hold out."""


@runtime_checkable  # the tests check arguments at run time
class Splittable(Protocol):
    """A decoded data set of either family."""

    @property
    def keys(self) -> Sequence[Key]:
        """A key of each image, equal for copies."""
        ...

    def earlier_digest_of(self, indices: Int[Tensor, " k"], choice: str) -> str:
        """Return what version 0.3.0 called some of the images, and called `choice`."""
        ...


def chosen_split(images: Splittable, begun_with: str | None, split: Callable[[Sequence[Key] | None], Split]) -> Split:
    """The split of a run, in which copies are on one side, or the one that version 0.3.0 made, for a run that it began.

    What such a run has trained on stays what it trains on.

    Args:
        images: what is split.
        begun_with: what the run's checkpoints call its training data; None without one.
        split: makes a split from what tells copies; from nothing as 0.3.0 did.

    Raises:
        TaskError: `too_few_images`, all are copies of one another.
    """
    if begun_with is not None:
        earlier = split(None)
        if images.earlier_digest_of(earlier[0], "kept") == begun_with:
            return earlier
    kept, held_out = split(images.keys)
    if not len(held_out):
        message = "no image can be held out: in each class all are copies of one another; give a validation file"
        raise TaskError("too_few_images", message, "training_file")
    return kept, held_out


def split_by_class(labels: Int[Tensor, " n"], fraction: float, seed: int, keys: Sequence[Key] | None = None) -> Split:
    """Indices to train on and to hold out: `fraction` of each class, at least one image, never all.

    A class whose images are all copies of one another holds out none.

    Args:
        labels: class of each image.
        fraction: share to hold out.
        seed: draws them.
        keys: equal for copies; without them every image is taken for another, as versions up to 0.3.0 did.
    """
    orders = []
    for label in sorted(set(labels.tolist())):
        members = torch.nonzero(labels == label).flatten()
        drawn = torch.randperm(len(members), generator=generator(seed, "holdout", label))
        orders.append(members[drawn].tolist())
    return _split(orders, fraction, 1, keys)


def split_rows(count: int, fraction: float, seed: int, least: int, keys: Sequence[Key] | None = None) -> Split:
    """Split rows without classes; `least` are held out where copies allow it."""
    order = torch.randperm(count, generator=generator(seed, "holdout")).tolist()
    return _split([order], fraction, least, keys)


def _split(orders: list[list[int]], fraction: float, least: int, keys: Sequence[Key] | None) -> Split:
    everything = sorted(index for order in orders for index in order)
    wanted = [min(max(least, round(fraction * len(order))), len(order) - 1) for order in orders]
    chosen = _Choice(orders, wanted, everything if keys is None else grouped(keys).tolist())
    for number in range(len(orders)):
        chosen.take(number, least)
    held_out = [index for index in everything if chosen.is_held_out(index)]
    kept = [index for index in everything if not chosen.is_held_out(index)]
    return torch.tensor(kept, dtype=torch.long), torch.tensor(held_out, dtype=torch.long)


class _Choice:
    """Groups of copies that are held out, whole groups at a time."""

    def __init__(self, orders: list[list[int]], wanted: list[int], groups: list[int]) -> None:
        self._orders = orders
        self._wanted = wanted
        self._groups = groups
        """The number of each image's group."""
        sizes = np.bincount(groups)
        self._shared: dict[int, Counter[int]] = {}
        """How many images of each class each group of several has."""
        for number, order in enumerate(orders):
            for index in order:
                if sizes[groups[index]] > 1:
                    self._shared.setdefault(groups[index], Counter())[number] += 1
        self._held_out: set[int] = set()
        self._taken: Counter[int] = Counter()

    def is_held_out(self, index: int) -> bool:
        return self._groups[index] in self._held_out

    def take(self, number: int, least: int) -> None:
        """Hold out of a class, in its order, groups that no class has too many of; if none is small enough, the least.

        At least one image of each class stays.
        """
        groups = list(dict.fromkeys(self._groups[index] for index in self._orders[number]))
        for group in groups:
            if self._taken[number] == self._wanted[number]:
                return
            if self._fits(group, number, self._wanted):
                self._hold_out(group, number)
        most = [len(order) - 1 for order in self._orders]
        while self._taken[number] < min(least, self._wanted[number]):
            left = [group for group in groups if group not in self._held_out and self._fits(group, number, most)]
            if not left:
                return
            self._hold_out(min(left, key=lambda group: self._sizes(group, number).total()), number)

    def _sizes(self, group: int, number: int) -> Counter[int]:
        """Images of each class in a group that has one of this class."""
        return self._shared.get(group) or Counter([number])

    def _hold_out(self, group: int, number: int) -> None:
        if group not in self._held_out:
            self._held_out.add(group)
            self._taken.update(self._sizes(group, number))

    def _fits(self, group: int, number: int, most: list[int]) -> bool:
        return all(self._taken[other] + count <= most[other] for other, count in self._sizes(group, number).items())
