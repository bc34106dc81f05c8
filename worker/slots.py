"""A worker's slots of one kind: which are free, and taking as many at once as an item needs, or none."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from worker.gpus import Gpus


class Slots:
    """Each slot has a thread that looks for work for it; an item of several slots takes those of others along."""

    def __init__(self, gpus: Gpus) -> None:
        """Begin with no slot known to be ready."""
        self.gpus = gpus
        self._ready: set[int] = set()
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    @property
    def at_once(self) -> int:
        """The most slots that one item can have."""
        return self.gpus.at_once

    def tell(self, slot: int, *, ready: bool) -> None:
        """Note whether the slot can take an item, as its thread has found."""
        with self._lock:
            (self._ready.add if ready else self._ready.discard)(slot)

    def is_taken(self, slot: int) -> bool:
        """Return whether an item has the slot."""
        return slot in self._taken

    @contextmanager
    def claiming(self, own: int) -> Iterator[list[int]]:
        """The slots that are free for a claim, `own` first; empty if that is taken.

        Of the worker's threads one claims at a time, so that two do not count on the same slots.
        """
        with self._lock:
            others = sorted(self._ready - self._taken - {own})
            yield [] if own in self._taken else self.gpus.apart([own, *others])

    def take(self, slots: Sequence[int]) -> list[int]:
        """Give an item these slots; within `claiming`."""
        self._taken.update(slots)
        return list(slots)

    def give_back(self, slots: Sequence[int]) -> None:
        """The item has ended."""
        with self._lock:
            self._taken.difference_update(slots)
