"""The rows of a data set of captioned images, in some hundred bytes each beside their captions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from difftune_core.data.columns import Digests, Texts
from difftune_core.data.items import CaptionedImage

_NONE = bytes(32)


class CaptionedImages(Sequence[CaptionedImage]):
    """Images with their captions and controls, each an object while it is asked for alone."""

    def __init__(self, images: Iterable[CaptionedImage] = ()) -> None:
        """Take images in their order."""
        self._paths, self._captions, self._controls = Texts(), Texts(), Texts()
        self._sha256, self._control_sha256 = Digests(), Digests()
        self._widths, self._heights = array("I"), array("I")
        self._order: Sequence[int] | None = None
        for image in images:
            self.append(image)

    def append(self, image: CaptionedImage) -> None:
        """Add an image."""
        self._paths.append(image.path)
        self._captions.append(image.caption)
        self._widths.append(image.width)
        self._heights.append(image.height)
        self._sha256.append(bytes.fromhex(image.sha256))
        self._controls.append(image.control or "")
        self._control_sha256.append(_NONE if image.control_sha256 is None else bytes.fromhex(image.control_sha256))

    def by_path(self) -> CaptionedImages:
        """Return the same images, sorted by their paths; none is added any more."""
        paths = list(self._paths)
        self._order = array("I", sorted(range(len(paths)), key=paths.__getitem__))
        return self

    def __len__(self) -> int:
        """Number of images."""
        return len(self._widths)

    @overload
    def __getitem__(self, place: int) -> CaptionedImage: ...
    @overload
    def __getitem__(self, place: slice) -> list[CaptionedImage]: ...
    def __getitem__(self, place: int | slice) -> CaptionedImage | list[CaptionedImage]:
        """Return one of the images, or a part of them."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place] if self._order is None else self._order[place]
        control = self._controls[number]
        return CaptionedImage(
            self._paths[number],
            self._captions[number],
            self._widths[number],
            self._heights[number],
            self._sha256[number].hex(),
            control or None,
            self._control_sha256[number].hex() if control else None,
        )

    def __iter__(self) -> Iterator[CaptionedImage]:
        """Yield all of the images."""
        return (self[place] for place in range(len(self)))
