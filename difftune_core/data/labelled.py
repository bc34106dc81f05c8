"""The images of a data set of class folders, in some hundred bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from difftune_core.data.columns import ByPath, Digests, Numbered
from difftune_core.data.items import LabelledImage


class LabelledImages(ByPath[LabelledImage]):
    """Images with their classes, each an object while it is asked for alone."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._classes, self._formats, self._sha256 = Numbered(), Numbered(), Digests()
        self._bytes, self._widths, self._heights = array("Q"), array("I"), array("I")

    def append(self, image: LabelledImage) -> None:
        """Add an image."""
        self._paths.append(image.path)
        self._classes.append(image.class_name)
        self._bytes.append(image.bytes)
        self._widths.append(image.width)
        self._heights.append(image.height)
        self._formats.append(image.format)
        self._sha256.append(bytes.fromhex(image.sha256))

    @property
    def classes(self) -> Sequence[str]:
        """The distinct classes."""
        return self._classes.distinct

    def row(self, number: int) -> LabelledImage:
        """Make one of the images."""
        sizes = (self._bytes[number], self._widths[number], self._heights[number])
        names = (self._paths[number], self._classes[number])
        return LabelledImage(*names, *sizes, self._formats[number], self._sha256[number].hex())
