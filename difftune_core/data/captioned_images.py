"""The rows of a data set of captioned images, in some hundred bytes each beside their captions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from difftune_core.data.columns import ByPath, Digests, Texts
from difftune_core.data.items import CaptionedImage

_NONE = bytes(32)


class CaptionedImages(ByPath[CaptionedImage]):
    """Images with their captions and controls, each an object while it is asked for alone."""

    def __init__(self, images: Iterable[CaptionedImage] = ()) -> None:
        """Take images in their order."""
        super().__init__()
        self._captions, self._controls = Texts(), Texts()
        self._sha256, self._control_sha256 = Digests(), Digests()
        self._widths, self._heights = array("I"), array("I")
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

    def row(self, number: int) -> CaptionedImage:
        """Make one of the images."""
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
