"""Brings whatever a file holds to 8-bit sRGB: depth, colour profile and transparency, by one rule for every mode."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image, ImageCms

from difftune_core.data.members import RefusedError

WHITE: Final = (255, 255, 255)
"""What shows through a picture's transparent pixels: white, as on a page."""
BLACK: Final = (0, 0, 0)
"""What shows through a control image's transparent pixels: black, which means no line, no depth, no pose."""

_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_KEYED_MODES = frozenset({"1", "L", "RGB", "P"})  # modes that may name one colour or palette entry transparent
_SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # profile's colour space -> the mode that it is applied to


def to_rgb(image: Image.Image, ground: tuple[int, int, int] = WHITE) -> Image.Image:
    """8-bit sRGB: 16 bits are scaled, an embedded profile is applied, transparent pixels show `ground`.

    Raises:
        RefusedError: `unsupported_format` for pixels that are floating-point or 32-bit numbers of no known scale.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise RefusedError("unsupported_format", f"its pixels are of mode {image.mode}: numbers without a known scale")
    if image.mode.startswith("I"):
        return _converted(_eight_bits(image), image)
    if not has_transparency(image):
        return _converted(image, image)
    whole = image.convert("RGBA")
    colours = _converted(whole.convert("RGB"), image)
    colours.putalpha(whole.getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", image.size, (*ground, 255)), colours).convert("RGB")


def has_transparency(image: Image.Image) -> bool:
    """Return whether the file says how transparent its pixels are; they may all be opaque."""
    return image.mode in _ALPHA_MODES or ("transparency" in image.info and image.mode in _KEYED_MODES)


def _eight_bits(image: Image.Image) -> Image.Image:
    levels = np.asarray(image).astype(np.float64) / 257  # 65,535 / 255
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _converted(image: Image.Image, source: Image.Image) -> Image.Image:
    """RGB by the profile embedded in `source`.

    A profile that is broken, or of a colour space that fits neither these pixels nor their RGB form, is ignored; RGB
    pixels that are sRGB already stay as they are.
    """
    embedded = source.info.get("icc_profile")
    if not embedded:
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        mode = _SPACES.get(profile.profile.xcolor_space.strip(), "")
        if "srgb" in ImageCms.getProfileDescription(profile).lower() or not _fits(image, mode):
            return image.convert("RGB")
        pixels = image if image.mode == mode else image.convert(mode)
        converted = ImageCms.profileToProfile(pixels, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB")
    return converted or image.convert("RGB")


def _fits(image: Image.Image, mode: str) -> bool:
    """Return whether pixels can be brought to the profile's mode without changing what they show."""
    if mode == "RGB":
        return image.mode != "CMYK"
    if mode == "L":
        return image.mode in {"1", "L"} or _is_grey(image)
    return mode == image.mode != ""


def _is_grey(image: Image.Image) -> bool:
    """Return whether a picture that is stored in colours (a palette, a composed one) has none."""
    if image.mode == "CMYK":
        return False
    red, green, blue = (np.asarray(band) for band in image.convert("RGB").split())
    return bool((red == green).all() and (green == blue).all())
