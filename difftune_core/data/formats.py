"""Which files are pictures: by their first bytes, and by the endings that say what a file was meant to be."""

from __future__ import annotations

from functools import cache
from typing import Final

ENDINGS: Final = ("png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "tif", "tiff", "avif", "heic", "heif")
"""Endings of the formats that are read, HEIC where its reader is installed."""
_UNREAD: Final = ("gif", "jxl", "jp2", "j2k", "psd", "svg", "ico", "exr", "hdr", "dng", "cr2", "nef")
PICTURE_ENDINGS: Final = frozenset({*ENDINGS, *_UNREAD})
READ: Final = "JPEG, PNG, WebP, BMP, TIFF or AVIF"

_MAGICS: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_UNREAD_MAGICS: Final = (
    (b"GIF8", "GIF"),
    (b"8BPS", "Photoshop"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG or other XML"),
    (b"%PDF", "PDF"),
)
_AVIF: Final = frozenset({b"avif", b"avis"})
_HEIF: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_BMP_HEADERS: Final = frozenset({12, 40, 52, 56, 64, 108, 124})
_MAX_BRANDS: Final = 64


def sniff(data: bytes) -> str | None:
    """The format, as Pillow names it, by the first bytes; None for what is not read, whatever its name says."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    kind = next((kind for magic, kind in _MAGICS if data.startswith(magic)), None)
    if kind == "BMP" and int.from_bytes(data[14:18], "little") not in _BMP_HEADERS:
        return None  # two letters are too little to know it by
    if kind is None and _AVIF & _brands(data):
        return "AVIF"
    return "HEIF" if kind is None and _HEIF & _brands(data) and reads_heif() else kind


@cache
def reads_heif() -> bool:
    """Teach Pillow to read HEIC and HEIF where the extra `heic` is installed; whether it is.

    An extra, because the wheel of its reader carries an encoder under the GPL, which nobody must pass on unasked.
    """
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True


def why_unread(data: bytes) -> str:
    """Return what the file is instead of a picture that is read."""
    kind = next((kind for magic, kind in _UNREAD_MAGICS if data.startswith(magic)), None)
    if kind is None and _HEIF & _brands(data):
        return f"the file is HEIC, which needs difftune's extra `heic` to be read: install it, or convert to {READ}"
    is_what = f"{kind}, which is not read: convert it" if kind else "not"
    return f"the file is {is_what}{' to' if kind else ''} a {READ} image, judged by its content"


def ending_of(path: str) -> str:
    """Return what follows the last dot of the file's own name, in lower case; empty where there is none."""
    return path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else ""


def has_picture_name(path: str) -> bool:
    """Return whether the name says that this is a picture, read or not."""
    return ending_of(path) in PICTURE_ENDINGS


def _brands(data: bytes) -> frozenset[bytes]:
    """Brands of an ISO media file: what its content follows."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), 4 * _MAX_BRANDS)
    return frozenset({data[8:12], *(data[at : at + 4] for at in range(16, end, 4))})
