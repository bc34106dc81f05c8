"""How an image of any shape becomes a square one. Images and their controls are cut alike, so that both still fit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from PIL import Image

from difftune_core.config.crops import CropName

_FRACTION = 1 << 32


@dataclass(frozen=True)
class Crop:
    """A way of making images square; `seed` draws the places of `random`."""

    kind: CropName = "center"
    seed: int = 0

    @property
    def of_held_out(self) -> Crop:
        """The crop of held-out images of a run whose images are cropped so: nothing is left to chance."""
        return self if self.kind == "resize" else CENTRE

    def told(self) -> dict[str, str | int]:
        """Return the fields that name the crop in keys of caches; none for the middle, which goes without saying."""
        told: dict[str, str | int] = {} if self.kind == "center" else {"crop": self.kind}
        return told | ({"seed": self.seed} if self.kind == "random" else {})

    def __call__(self, image: Image.Image, size: int, sha256: str) -> Image.Image:
        """An image of `size` x `size` pixels; `sha256` is of the file of the item's image, and draws its place.

        ADM's way down, as DiT and its evaluations go it (Dhariwal and Nichol 2021): halved by boxes while twice too
        large, bicubic to the short side. Smaller images are enlarged by the same bicubic.
        """
        while min(image.size) >= 2 * size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        if self.kind == "resize":
            return image.resize((size, size), Image.Resampling.BICUBIC)
        scale = size / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = self._corner(image.width - size, image.height - size, sha256)
        return image.crop((left, top, left + size, top + size))

    def _corner(self, width: int, height: int, sha256: str) -> tuple[int, int]:
        """Left and top of what is kept, where so many pixels are too many."""
        if self.kind == "center":
            return width // 2, height // 2
        drawn = hashlib.sha256(f"{self.seed} {sha256}".encode()).digest()
        along, down = int.from_bytes(drawn[:4], "big"), int.from_bytes(drawn[4:8], "big")
        return (width + 1) * along // _FRACTION, (height + 1) * down // _FRACTION


CENTRE = Crop()
