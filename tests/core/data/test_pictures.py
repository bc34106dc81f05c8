"""One picture, however it is stored: colour profiles, transparency, formats, and files that lack their end."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from difftune_core.data.colour import BLACK
from difftune_core.data.formats import reads_heif
from difftune_core.data.images import check_image, load_rgb
from difftune_core.data.members import RefusedError

SIZE = 32


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and blue exchanged, under a name that is not sRGB's."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for name, other in ((b"rXYZ", b"bXYZ"),):
        first, second = profile.index(name, 128), profile.index(other, 128)
        profile[first : first + 4], profile[second : second + 4] = other, name
    return (
        bytes(profile)
        .replace(b"sRGB", b"odd ")
        .replace(b"s\0R\0G\0B\0", b"o\0d\0d\0 \0")
        .replace(b"\0s\0R\0G\0B", b"\0o\0d\0d\0 ")
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_applied_in_every_mode_of_colour(mode: str, kind: str) -> None:
    red = Image.new("RGB", (40, 40), (255, 0, 0))
    image = red.quantize(4) if mode == "P" else red.convert(mode)
    seen = load_rgb(encoded(image, kind, icc_profile=swapped_profile()), SIZE)
    assert np.abs(seen.astype(int) - [0, 0, 255]).max() <= 3


def grey_profile() -> bytes:
    """Of light itself: a level of 128 is half of the light, which sRGB writes as 188."""
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(79),
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D),
        b"kTRC": b"curv" + bytes(8),
    }
    table, data, begin = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">2I", begin + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s12x4s", begin + len(data), b"lcms", 0x2400000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    return head.ljust(68, b"\0") + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D) + bytes(48) + table + data


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_profile_of_grey_is_applied_to_what_has_no_colour_however_it_is_stored(mode: str) -> None:
    grey = Image.new("L", (40, 40), 128)
    image = grey.convert("RGB").quantize(4) if mode == "P" else grey.convert(mode)
    seen = load_rgb(encoded(image, icc_profile=grey_profile()), SIZE)
    assert np.abs(seen.astype(int) - 188).max() <= 1


@pytest.mark.parametrize("colour", [(255, 0, 0), (128, 128, 127)])
def test_a_profile_of_grey_takes_no_colour_away(colour: tuple[int, int, int]) -> None:
    seen = load_rgb(encoded(Image.new("RGB", (40, 40), colour), icc_profile=grey_profile()), SIZE)
    assert (seen == colour).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_is_one_grey_in_every_mode(mode: str) -> None:
    """A profile of colours fits pictures that are stored as grey as well."""
    grey = Image.new("L", (40, 40), 128)
    image = grey.convert("P") if mode == "P" else grey.convert(mode)
    seen = load_rgb(encoded(image, icc_profile=swapped_profile()), SIZE).astype(int)
    wanted = load_rgb(encoded(grey.convert("RGB"), icc_profile=swapped_profile()), SIZE).astype(int)
    assert np.abs(seen - wanted).max() <= 1


def test_a_profile_is_applied_before_what_is_transparent_shows_the_ground() -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 255))
    image.paste((255, 0, 0, 0), (0, 0, 20, 40))
    seen = load_rgb(encoded(image, icc_profile=swapped_profile()), 40).astype(int)
    assert seen[20, 5].tolist() == [255, 255, 255]
    assert np.abs(seen[20, 35] - [0, 0, 255]).max() <= 3
    assert load_rgb(encoded(image), 40, BLACK)[20, 5].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "AVIF"])
def test_a_cut_file_of_other_formats_is_cut(build: Any, kind: str) -> None:
    data = build.picture(width=200, height=200, kind=kind)
    assert check_image(data).format == kind
    for share in (0.5, 0.9):
        with pytest.raises(RefusedError) as caught:
            check_image(data[: int(share * len(data))])
        assert caught.value.code == "truncated_image"


def test_numbers_without_a_scale_and_pages_are_refused() -> None:
    floats = Image.fromarray(np.zeros((20, 20), np.float32))
    with pytest.raises(RefusedError, match="mode F"):
        load_rgb(encoded(floats, "TIFF"), 8)
    pages = encoded(Image.new("RGB", (20, 20)), "TIFF", save_all=True, append_images=[Image.new("RGB", (20, 20))])
    with pytest.raises(RefusedError, match="pages"):
        check_image(pages)


def test_a_photo_of_a_phone_is_read() -> None:
    image = photo("sharp").convert("RGB")
    assert reads_heif()
    data = encoded(image, "HEIF", quality=95)
    info = check_image(data)
    assert (info.width, info.height, info.format) == (450, 300, "HEIF")
    difference = load_rgb(data, 64).astype(int) - load_rgb(encoded(image), 64)
    assert np.abs(difference).mean() < 3
    for share in (0.2, 0.9):
        with pytest.raises(RefusedError) as caught:
            check_image(data[: int(share * len(data))])
        assert caught.value.code == "truncated_image"


def test_a_photo_of_a_phone_stands_upright() -> None:
    image = Image.new("RGB", (60, 40), (200, 0, 0))
    image.paste((0, 0, 200), (0, 0, 30, 40))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise
    assert reads_heif()
    data = encoded(image, "HEIF", exif=turned.tobytes(), quality=95)
    info = check_image(data)
    assert (info.width, info.height) == (40, 60)
    top, bottom = load_rgb(data, 40)[[3, 36], 20].astype(int)
    assert top[2] > 150 > top[0]
    assert bottom[0] > 150 > bottom[2]


def test_heic_is_named_where_its_reader_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    reads_heif.cache_clear()
    with pytest.raises(RefusedError, match=r"HEIC.*extra `heic`") as caught:
        check_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    assert caught.value.code == "unsupported_format"
    reads_heif.cache_clear()


def photo(kind: str) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (30, 45, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((450, 300), Image.Resampling.BICUBIC)
    if kind == "flat below":
        image.paste("white", (0, 150, 450, 300))
    return image.convert("L") if kind == "grey" else Image.new("RGB", (450, 300), "navy") if kind == "flat" else image


@pytest.mark.parametrize("kind", ["colour", "grey", "flat", "flat below"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 95}])
def test_a_jpeg_that_was_cut_and_closed_is_found(kind: str, options: dict[str, Any]) -> None:
    data = encoded(photo(kind), "JPEG", **options)
    assert check_image(data).format == "JPEG"
    scan = data.rindex(b"\xff\xda")
    refined = kind == "flat" and "progressive" in options  # the end of its last scan says nothing that could be lost
    for share in (0.3,) if refined else (0.3, 0.6, 0.95):
        cut = data[: scan + int(share * (len(data) - scan))].rstrip(b"\xff")
        with pytest.raises(RefusedError) as caught:
            check_image(cut + b"\xff\xd9")
        assert caught.value.code in {"truncated_image", "damaged_image"}


def test_whole_jpeg_files_with_things_behind_their_end_are_whole() -> None:
    data = encoded(photo("flat"), "JPEG")
    for tail in (b"", b"\0" * 16, b"padding"):
        assert check_image(data + tail).width == 450
