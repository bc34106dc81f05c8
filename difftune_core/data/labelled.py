"""The images of a data set of class folders, in some hundred bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from difftune_core.data.columns import Digests, Numbered, Texts
from difftune_core.data.items import LabelledImage


class LabelledImages(Sequence[LabelledImage]):
    """Images with their classes, each an object while it is asked for alone."""

    def __init__(self) -> None:
        """Begin empty."""
        self._paths, self._classes, self._formats, self._sha256 = Texts(), Numbered(), Numbered(), Digests()
        self._bytes, self._widths, self._heights = array("Q"), array("I"), array("I")
        self._order: Sequence[int] | None = None

    def append(self, image: LabelledImage) -> None:
        """Add an image."""
        self._paths.append(image.path)
        self._classes.append(image.class_name)
        self._bytes.append(image.bytes)
        self._widths.append(image.width)
        self._heights.append(image.height)
        self._formats.append(image.format)
        self._sha256.append(bytes.fromhex(image.sha256))

    def by_path(self) -> LabelledImages:
        """Return the same images, sorted by their paths; none is added any more."""
        paths = list(self._paths)
        self._order = array("I", sorted(range(len(paths)), key=paths.__getitem__))
        return self

    @property
    def classes(self) -> Sequence[str]:
        """The distinct classes."""
        return self._classes.distinct

    def __len__(self) -> int:
        """Number of images."""
        return len(self._bytes)

    @overload
    def __getitem__(self, place: int) -> LabelledImage: ...
    @overload
    def __getitem__(self, place: slice) -> list[LabelledImage]: ...
    def __getitem__(self, place: int | slice) -> LabelledImage | list[LabelledImage]:
        """Return one of the images, or a part of them."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place] if self._order is None else self._order[place]
        sizes = (self._bytes[number], self._widths[number], self._heights[number])
        names = (self._paths[number], self._classes[number])
        return LabelledImage(*names, *sizes, self._formats[number], self._sha256[number].hex())

    def __iter__(self) -> Iterator[LabelledImage]:
        """Yield all of the images."""
        return (self[place] for place in range(len(self)))
