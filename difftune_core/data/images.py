"""Judging and decoding one image.

Validation decodes at a reduced scale where the format can (JPEG), which finds truncation at half the cost; training
always decodes in full, because a scaled decode differs by about two grey levels.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from difftune_core.config.previews import SIDE as PREVIEW_SIDE
from difftune_core.data.colour import WHITE, has_transparency, to_rgb
from difftune_core.data.copies import Key, copy_key
from difftune_core.data.crops import CENTRE, Crop
from difftune_core.data.formats import sniff, why_unread
from difftune_core.data.jpeg import is_cut_and_closed
from difftune_core.data.members import RefusedError

MIN_SIDE = 4
MAX_SIDE = 16_384
MAX_PIXELS = 1 << 26

_HARMLESS = (
    "Image appears to be a malformed MPO file",  # its first picture is whole
    "Corrupt EXIF data",  # shown as stored
)
_DRAFT_SIDE = 256
_LOSSLESS_SIDE = 64  # a preview of so few pixels shows what JPEG does to them
_ORIENTATION_TAG = 0x0112
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
_TAIL = 64  # bytes in which an end mark is looked for; some cameras pad


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Size in pixels as shown, that is after the EXIF orientation."""

    width: int
    height: int
    format: str
    key: Key | None = None
    """Equal for equal pixels; None where they were not read, or at a reduced scale alone."""


def check_image(data: bytes, *, decode: bool = True, keep: Callable[[bytes], None] | None = None) -> ImageInfo:
    """Size and format of a whole, still image; with `decode` its pixels are read too, at a reduced scale for JPEG.

    Args:
        data: the file.
        decode: whether to look at its pixels.
        keep: is given a preview of what was decoded, as a PNG or JPEG file.

    Raises:
        RefusedError: `unsupported_format`, `truncated_image`, `damaged_image`, `animated_image`, `image_too_large`,
            `image_too_small`.
    """
    if decode and sniff(data) == "PNG":
        _check_sums(data)
    with _opened(data) as image:
        width, height = image.size
        if _orientation(image) in _TURNED:
            width, height = height, width
        if not decode:
            return ImageInfo(width, height, sniff(data) or "")
        _decode(image, data)
        key = None if sniff(data) == "JPEG" else copy_key(np.asarray(to_rgb(_upright(image))))
        if keep is not None and (preview := _preview(image)):
            keep(preview)
        return ImageInfo(width, height, sniff(data) or "", key)


def load_rgb(
    data: bytes, size: int, ground: tuple[int, int, int] = WHITE, *, crop: Crop = CENTRE, sha256: str = ""
) -> UInt8[np.ndarray, "size size 3"]:
    """The image upright, in sRGB, cropped to `size` x `size` pixels; transparent pixels show `ground`.

    `sha256` is what a crop's place is drawn by.

    Raises:
        RefusedError: as `check_image`.
    """
    with _opened(data) as image:
        image.load()
        return np.asarray(crop(to_rgb(_upright(image), ground), size, sha256))


def load_whole(data: bytes, ground: tuple[int, int, int] = WHITE) -> UInt8[np.ndarray, "h w 3"]:
    """The image upright, in sRGB, at its own size; transparent pixels show `ground`.

    Raises:
        RefusedError: as `check_image`.
    """
    with _opened(data) as image:
        image.load()
        return np.asarray(to_rgb(_upright(image), ground))


def shows_ground(data: bytes) -> bool:
    """Return whether any pixel is transparent, in part or in full.

    Raises:
        RefusedError: as `check_image`.
    """
    with _opened(data) as image:
        image.load()
        return has_transparency(image) and image.convert("RGBA").getchannel("A").getextrema()[0] != 255  # noqa: PLR2004  opaque


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image with its header judged; whatever its decoder raises becomes a reason."""
    kind = sniff(data)
    if kind is None:
        raise RefusedError("unsupported_format", why_unread(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for harmless in _HARMLESS:
            warnings.filterwarnings("ignore", harmless)
        try:
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                _judge_header(image, kind)
                yield image
        except RefusedError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise RefusedError("image_too_large", f"more than {MAX_PIXELS} pixels") from error
        except Exception as error:  # for hostile bytes a decoder may raise anything
            raise _unreadable(data, kind, error) from error


def _decode(image: Image.Image, data: bytes) -> None:
    """Decode at the scale of validation, and look whether all of the picture was there."""
    draft = (_DRAFT_SIDE, _DRAFT_SIDE)
    image.draft("RGB", draft)
    image.load()
    if image.format == "JPEG" and is_cut_and_closed(data, image, draft):
        raise RefusedError("truncated_image", "the JPEG image is cut: data is missing before its end mark")


def _preview(image: Image.Image) -> bytes:
    """The image at the size of a preview, as a file; empty where that cannot be made, which is no fault of it."""
    try:
        small = image.copy()
        small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        buffer, small = io.BytesIO(), to_rgb(_upright(small))
        if max(small.size) <= _LOSSLESS_SIDE:
            small.save(buffer, "PNG")
        else:
            small.save(buffer, "JPEG", quality=80)
    except Exception:  # noqa: BLE001  it was found whole; metadata may still be anything
        return b""
    return buffer.getvalue()


def _check_sums(data: bytes) -> None:
    """Compare every chunk of a PNG with its CRC, which decoding does not."""
    with _opened(data) as image:
        image.verify()


def _judge_header(image: Image.Image, kind: str) -> None:
    width, height = image.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise RefusedError(
            "image_too_large", f"{width} x {height}; at most {MAX_SIDE} a side and {MAX_PIXELS} pixels in all"
        )
    if min(width, height) < MIN_SIDE:
        raise RefusedError("image_too_small", f"{width} x {height}; at least {MIN_SIDE} pixels a side")
    if kind != "JPEG" and getattr(image, "n_frames", 1) > 1:
        raise RefusedError("animated_image", "the image is animated or has several pages; only stills are accepted")


def _unreadable(data: bytes, kind: str, error: Exception) -> RefusedError:
    if _is_cut(data, kind) or "truncated" in str(error).lower():
        return RefusedError("truncated_image", f"the {kind} image is truncated: its end is missing")
    if isinstance(error, UnidentifiedImageError):  # its text shows an address in memory
        return RefusedError("damaged_image", f"the {kind} image cannot be decoded: its header is damaged")
    return RefusedError("damaged_image", f"the {kind} image cannot be decoded: {error}")


def _is_cut(data: bytes, kind: str) -> bool:
    """Return whether the end that the format prescribes is missing."""
    if kind == "JPEG":
        return _JPEG_END not in data[-_TAIL:]
    if kind == "PNG":
        return _PNG_END not in data[-_TAIL:]
    if kind == "BMP":
        return len(data) < int.from_bytes(data[2:6], "little")
    if kind in {"AVIF", "HEIF"}:
        return _boxes_end(data) > len(data)
    if kind != "WEBP":
        return False
    return len(data) < 8 + int.from_bytes(data[4:8], "little")  # RIFF: size of what follows the first 8 bytes


def _boxes_end(data: bytes) -> int:
    """Return where the last box of an ISO media file ends by its own size, were the file whole."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:  # noqa: PLR2004  1: a 64-bit size follows; 0: to the end of the file
            return len(data)
        at += size
    return at


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001  broken metadata beside whole pixels: shown as stored
        return 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  as in _orientation
        return image
