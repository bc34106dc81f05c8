"""Looking at the pictures of captioned sets: whether they are whole, and whether control images say anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from difftune_core.data.copies import Key
from difftune_core.data.images import check_image, load_rgb, load_whole, shows_ground
from difftune_core.data.items import GROUNDS, CaptionedImage, Role
from difftune_core.data.members import Refusal

_LEVELS = 4  # of 255, within which a control image is one colour: what a JPEG of one colour keeps
_LOOK_SIDE = 64


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole file; width and height in pixels as shown."""

    width: int
    height: int
    sha256: str
    key: Key | None = None
    """Key that is equal for equal pixels; None where they are not known."""
    look: bytes = b""
    """Digest of the picture's pixels at a small size, where they were decoded."""
    is_constant: bool = False
    is_transparent: bool = False


def look_at(
    data: bytes, roles: AbstractSet[Role], *, decode: bool, keep: Callable[[bytes], None] | None = None
) -> Picture:
    """Find what a file holds that rows use in these roles; pixels are looked at with `decode` alone.

    `keep` is given a preview, as by `images.check_image`.

    Raises:
        RefusedError: as `images.check_image`.
    """
    info = check_image(data, decode=decode, keep=keep)
    digest = hashlib.sha256(data).hexdigest()
    if not decode:
        return Picture(info.width, info.height, digest)
    if "control" not in roles:
        look = hashlib.sha256(load_rgb(data, _LOOK_SIDE).tobytes()).digest()
        return Picture(info.width, info.height, digest, info.key, look)
    pixels = load_whole(data, GROUNDS["control"])
    is_constant = bool((np.ptp(pixels.reshape(-1, 3), axis=0) <= _LEVELS).all())
    look = hashlib.sha256(load_rgb(data, _LOOK_SIDE, GROUNDS["control"]).tobytes()).digest()
    return Picture(info.width, info.height, digest, info.key, look, is_constant, shows_ground(data))


def idle_controls(items: Sequence[CaptionedImage], files: Mapping[str, Picture]) -> list[Refusal]:
    """Control images from which nothing can be learned."""
    found = []
    controlled = [item for item in items if item.control is not None]
    for path, item in {item.control: item for item in controlled if item.control}.items():
        control, image = files[path], files[item.path]
        if control.is_transparent:
            found.append(Refusal(path, "transparent_control", "its transparent pixels are taken as black"))
        if control.is_constant:
            found.append(Refusal(path, "constant_control", "the control image is of one colour: it says nothing"))
        elif control.look == image.look:
            found.append(Refusal(path, "control_is_image", f"the control image shows what its image {item.path} shows"))
    pictures = {item.sha256 for item in controlled}
    if len(pictures) > 1 and len({item.control_sha256 for item in controlled}) == 1:
        message = f"all {len(controlled)} rows have the same control image: it says nothing about them"
        found.append(Refusal(controlled[0].control or "", "one_control", message))
    return found
