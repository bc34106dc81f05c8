"""Judging and decoding one image.

Validation decodes at a reduced scale where the format can (JPEG), which finds truncation at half the cost; training
always decodes in full, because a scaled decode differs by about two grey levels.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from difftune_core.data.members import RefusedError

MIN_SIDE = 4
MAX_SIDE = 16_384
MAX_PIXELS = 1 << 26
BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as on a page."""

_HARMLESS = (
    "Image appears to be a malformed MPO file",  # its first picture is whole
    "Corrupt EXIF data",  # shown as stored
)
_DRAFT_SIDE = 256
_ORIENTATION_TAG = 0x0112
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_TRANSPARENCY_MODES = frozenset({"1", "L", "RGB", "P"})  # modes that may name one colour or palette entry transparent
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
_TAIL = 64  # bytes in which an end mark is looked for; some cameras pad


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Size in pixels as shown, that is after the EXIF orientation."""

    width: int
    height: int
    format: str


def sniff(data: bytes) -> str | None:
    """JPEG, PNG or WEBP by the first bytes; None for anything else, whatever its name says."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def check_image(data: bytes, *, decode: bool = True) -> ImageInfo:
    """Size and format of a whole, still image; with `decode` its pixels are read too, at a reduced scale for JPEG.

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
        if decode:
            image.draft("RGB", (_DRAFT_SIDE, _DRAFT_SIDE))
            image.load()
        return ImageInfo(width, height, sniff(data) or "")


def load_rgb(data: bytes, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The image upright, in sRGB, centre-cropped to `size` x `size` pixels.

    Raises:
        RefusedError: as `check_image`.
    """
    with _opened(data) as image:
        image.load()
        return np.asarray(centre_crop(to_rgb(_upright(image)), size))


def load_whole(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The image upright, in sRGB, at its own size.

    Raises:
        RefusedError: as `check_image`.
    """
    with _opened(data) as image:
        image.load()
        return np.asarray(to_rgb(_upright(image)))


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's crop: halve by boxes while twice too large, bicubic to the short side, cut the middle.

    Dhariwal and Nichol (2021), as DiT and its evaluations use it. Smaller images are enlarged by the same bicubic.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit sRGB by mode: 16 bits are scaled, an embedded profile is applied, transparency lies on `BACKGROUND`."""
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64) / 257  # 65,535 / 255
        return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or _names_transparent_colour(image):
        opaque = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    if image.mode in {"RGB", "CMYK"} and image.info.get("icc_profile"):
        return _to_srgb(image)
    return image.convert("RGB")


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image with its header judged; whatever its decoder raises becomes a reason."""
    kind = sniff(data)
    if kind is None:
        raise RefusedError("unsupported_format", "the file is not a JPEG, PNG or WebP image, judged by its content")
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
        raise RefusedError("animated_image", "the image is animated; only stills are accepted")


def _unreadable(data: bytes, kind: str, error: Exception) -> RefusedError:
    if _is_cut(data, kind) or "truncated" in str(error).lower():
        return RefusedError("truncated_image", f"the {kind} image is truncated: its end is missing")
    if isinstance(error, UnidentifiedImageError):  # its text shows an address in memory
        return RefusedError("damaged_image", f"the {kind} image cannot be decoded: its header is damaged")
    return RefusedError("damaged_image", f"the {kind} image cannot be decoded: {error}")


def _is_cut(data: bytes, kind: str) -> bool:
    """Whether the end that the format prescribes is missing."""
    if kind == "JPEG":
        return _JPEG_END not in data[-_TAIL:]
    if kind == "PNG":
        return _PNG_END not in data[-_TAIL:]
    return len(data) < 8 + int.from_bytes(data[4:8], "little")  # RIFF: size of what follows the first 8 bytes


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


def _names_transparent_colour(image: Image.Image) -> bool:
    return "transparency" in image.info and image.mode in _TRANSPARENCY_MODES


def _to_srgb(image: Image.Image) -> Image.Image:
    """By the embedded profile; a broken one is ignored, and RGB pixels that are sRGB already stay as they are."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB")
    return converted or image.convert("RGB")
