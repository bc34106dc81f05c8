"""Columns of many small values, in a few bytes each: lists of the files of a data set of any size."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
from jaxtyping import Int64

T = TypeVar("T")
ByPathT = TypeVar("ByPathT", bound="ByPath[Any]")


class Column(Sequence[T]):
    """Values that are made when they are asked for, by their place."""

    @abstractmethod
    def at(self, number: int) -> T:
        """Make the value at a place, 0 to `len(self) - 1`."""

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        """Return one of the values, or a list of some."""
        if isinstance(place, slice):
            return [self.at(number) for number in range(*place.indices(len(self)))]
        return self.at(range(len(self))[place])

    def __iter__(self) -> Iterator[T]:
        """Yield all of the values."""
        return map(self.at, range(len(self)))


class Texts(Column[str]):
    """Strings in one piece of memory: 8 bytes each beside their own."""

    def __init__(self) -> None:
        """Begin empty."""
        self._bytes, self._ends = bytearray(), array("Q")

    def append(self, text: str) -> None:
        """Add a string; lone surrogates stay what they are."""
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        """Number of strings."""
        return len(self._ends)

    def at(self, number: int) -> str:
        """Decode one of the strings."""
        start = self._ends[number - 1] if number else 0
        return self._bytes[start : self._ends[number]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        """Yield all of the values."""
        start = 0
        for end in self._ends:
            yield self._bytes[start:end].decode("utf-8", "surrogatepass")
            start = end


class Numbered:
    """A few distinct strings that many rows share: each row has the number of its own."""

    def __init__(self) -> None:
        """Begin empty."""
        self._rows, self._numbers, self._texts = array("I"), dict[str, int](), list[str]()

    def append(self, text: str) -> None:
        """Add a row."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._texts)
            self._texts.append(text)
        self._rows.append(number)

    def __getitem__(self, place: int) -> str:
        """The string of a row."""
        return self._texts[self._rows[place]]

    @property
    def distinct(self) -> Sequence[str]:
        """The strings, in the order of their first rows."""
        return self._texts


class Digests(Column[bytes]):
    """Byte strings of one length in one piece of memory."""

    def __init__(self, joined: bytes = b"", length: int = 32) -> None:
        """Take byte strings that stand one behind the other."""
        self._length, self._bytes = length, bytearray(joined)

    def append(self, digest: bytes) -> None:
        """Add a byte string."""
        self._bytes += digest

    def __len__(self) -> int:
        """Number of byte strings."""
        return len(self._bytes) // self._length

    def at(self, number: int) -> bytes:
        """Copy one of the byte strings."""
        start = number * self._length
        return bytes(self._bytes[start : start + self._length])


class NumbersByName:
    """Numbers of names, which are not kept: 16 bytes each.

    Two names are taken for one where 64 bits of their hashes agree, once in 10^7 sets of a million.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Number names from 0."""
        self._hashes, self._order = array("q"), array("q")
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Give the next number to a name that is not there."""
        self._hashes.append(hash(name))

    def get(self, name: str) -> int | None:
        """The number of a name; None where it is not there."""
        hashes = np.array(self._hashes, copy=False) if self._hashes else np.empty(0, np.int64)
        if len(self._order) != len(hashes):
            self._order = array("q", np.argsort(hashes, kind="stable").tobytes())
        order = np.array(self._order, copy=False)
        place = int(np.searchsorted(hashes, hash(name), sorter=order)) if len(hashes) else 0
        if place == len(hashes) or hashes[order[place]] != hash(name):
            return None
        return int(order[place])

    def __len__(self) -> int:
        """Number of names."""
        return len(self._hashes)


class DigestsByName:
    """Byte strings of one length by names, which are not kept."""

    def __init__(self) -> None:
        """Begin empty."""
        self._numbers, self._digests = NumbersByName(), Digests()

    def add(self, name: str, digest: bytes) -> None:
        """Add a name that is not there."""
        self._numbers.add(name)
        self._digests.append(digest)

    def get(self, name: str, default: bytes) -> bytes:
        """The byte string of a name, or what stands for it where it is not there."""
        number = self._numbers.get(name)
        return default if number is None else self._digests[number]


def grouped(values: Iterable[Hashable]) -> Int64[np.ndarray, " n"]:
    """A number for each value, equal for equal ones: 8 bytes each."""
    hashes = np.fromiter((hash(value) for value in values), np.int64)
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64)


def distinct(values: Iterable[Hashable]) -> int:
    """Return how many different values there are, by 64 bits of their hashes."""
    return len(np.unique(np.fromiter((hash(value) for value in values), np.int64)))


class Computed(Column[T]):
    """Values that are computed when they are asked for."""

    def __init__(self, count: int, compute: Callable[[int], T]) -> None:
        """Compute nothing yet; `compute` takes a place."""
        self._count, self._compute = count, compute

    def __len__(self) -> int:
        """Number of values."""
        return self._count

    def at(self, number: int) -> T:
        """Compute one of the values."""
        return self._compute(number)


class ByPath(Column[T]):
    """Rows that each have a path, in the order in which they came or in that of their paths."""

    def __init__(self) -> None:
        """Begin empty."""
        self._paths = Texts()
        self._order: Sequence[int] | None = None

    def by_path(self: ByPathT) -> ByPathT:  # noqa: PYI019  beartype knows no Self here
        """Return the same rows, sorted by their paths; none is added any more."""
        paths = list(self._paths)
        self._order = array("I", sorted(range(len(paths)), key=paths.__getitem__))
        return self

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._paths)

    def at(self, number: int) -> T:
        """Make one of the rows."""
        return self.row(number if self._order is None else self._order[number])

    @abstractmethod
    def row(self, number: int) -> T:
        """Make the row that was added after `number` others."""
