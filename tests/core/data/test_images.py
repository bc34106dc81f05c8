from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from difftune_core.data.archive import RefusedError
from difftune_core.data.colour import WHITE
from difftune_core.data.images import check_image, load_rgb

SIZE = 32
QUADRANTS = np.array([[[200, 30, 40], [40, 190, 60]], [[50, 60, 210], [120, 120, 120]]], dtype=np.uint8)


def chart() -> Image.Image:
    """Four flat patches, 64 x 64: smooth enough for every format to keep them."""
    return Image.fromarray(QUADRANTS).resize((64, 64), Image.Resampling.NEAREST)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def patches(data: bytes) -> np.ndarray:
    """The four patch centres of the decoded picture, as signed integers [2, 2, 3]."""
    return load_rgb(data, SIZE)[8::16, 8::16].astype(int)


def refusal(data: bytes, *, decode: bool = True) -> str:
    with pytest.raises(RefusedError) as caught:
        check_image(data, decode=decode)
    return caught.value.code


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"])
def test_formats_are_known_by_content(build: Any, kind: str) -> None:
    info = check_image(build.picture(width=40, height=30, kind=kind))
    assert (info.width, info.height, info.format) == (40, 30, kind)


@pytest.mark.parametrize("kind", ["GIF", "JPEG2000", "PPM", "ICO"])
def test_other_formats_are_refused_whatever_pillow_can(build: Any, kind: str) -> None:
    assert refusal(build.picture(kind=kind)) == "unsupported_format"


@pytest.mark.parametrize("data", [b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0"])
def test_text_is_no_image(data: bytes) -> None:
    assert refusal(data) == "unsupported_format"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_truncation_is_found_by_the_scaled_decode(build: Any, kind: str, kept: float) -> None:
    data = build.picture(width=600, height=500, kind=kind)
    assert refusal(data[: int(len(data) * kept)]) == "truncated_image"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_of_which_only_the_magic_is_left_is_truncated(build: Any, kind: str) -> None:
    assert refusal(build.picture(kind=kind)[:16]) == "truncated_image"


def test_damage_inside_is_named_so(build: Any) -> None:
    data = bytearray(build.picture(width=200, height=200))
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    assert refusal(bytes(data)) == "damaged_image"


def test_a_damaged_header_is_told_without_addresses_in_memory() -> None:
    """Of equal data come equal reports."""
    header = chunk(b"IHDR", struct.pack(">2L5B", 0, 5, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(RefusedError, match=r"cannot be decoded: its header is damaged$") as refused:
        check_image(data)
    assert refused.value.code == "damaged_image"


def test_animated_images_are_refused() -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    for kind in ("PNG", "WEBP"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        assert refusal(data, decode=False) == "animated_image"


def test_a_phone_picture_with_a_second_picture_behind_it_is_a_still() -> None:
    data = encode(chart(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    assert check_image(data).format == "JPEG"
    assert np.abs(patches(data) - QUADRANTS).max() <= 6


def test_pixel_bombs_are_refused_from_the_header() -> None:
    header = chunk(b"IHDR", struct.pack(">2L5B", 60_000, 60_000, 8, 2, 0, 0, 0))
    assert refusal(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")) == "image_too_large"
    assert refusal(encode(Image.new("1", (9000, 8000)))) == "image_too_large"
    assert refusal(encode(Image.new("1", (20_000, 8)))) == "image_too_large"


def test_a_text_chunk_that_unpacks_without_end_is_refused(build: Any) -> None:
    data = build.picture()
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80 << 20)))
    assert refusal(data[:33] + bomb + data[33:]) == "damaged_image"


def test_specks_are_refused(build: Any) -> None:
    assert refusal(build.picture(width=3, height=50)) == "image_too_small"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_show_the_same_picture(orientation: int) -> None:
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    upright = Image.fromarray(QUADRANTS).resize((96, 64), Image.Resampling.NEAREST)
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, exif=exif)
    assert np.array_equal(load_rgb(data, SIZE), load_rgb(encode(upright), SIZE))
    assert (check_image(data).width, check_image(data).height) == (96, 64)


def test_broken_metadata_does_not_cost_the_picture() -> None:
    data = encode(chart(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff", quality=95)
    assert np.abs(patches(data) - QUADRANTS).max() <= 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_png_modes_become_rgb(mode: str) -> None:
    grey = np.array([[0, 255], [255, 0]], dtype=np.uint8) if mode == "1" else np.array([[0, 80], [160, 255]], np.uint8)
    wanted = QUADRANTS if mode in {"RGB", "RGBA", "P"} else np.repeat(grey[..., None], 3, axis=2)
    image = Image.fromarray(wanted).resize((64, 64), Image.Resampling.NEAREST)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.quantize(4) if mode == "P" else image.convert(mode)
    data = encode(image)
    assert Image.open(io.BytesIO(data)).mode == mode
    assert np.array_equal(patches(data), wanted)


def test_cmyk_jpegs_keep_their_colours() -> None:
    data = encode(chart().convert("CMYK"), "JPEG", quality=95)
    assert np.abs(patches(data) - QUADRANTS).max() <= 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_show_the_background(mode: str) -> None:
    if mode == "P":
        data = encode(Image.new("P", (64, 64), 0), transparency=0)
    else:
        data = encode(Image.new("RGBA", (64, 64), (10, 20, 30, 0)).convert(mode))
    assert np.array_equal(patches(data), np.broadcast_to(WHITE, (2, 2, 3)))


def test_a_colour_key_is_transparent() -> None:
    data = encode(Image.new("RGB", (64, 64), (1, 2, 3)), transparency=(1, 2, 3))
    assert np.array_equal(patches(data), np.broadcast_to(WHITE, (2, 2, 3)))


def test_half_transparent_black_is_grey() -> None:
    assert np.abs(patches(encode(Image.new("RGBA", (64, 64), (0, 0, 0, 128)))) - 127).max() <= 1


def test_an_srgb_profile_changes_nothing_and_a_broken_one_is_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile"):
        assert np.array_equal(patches(encode(chart(), icc_profile=profile)), QUADRANTS)


def test_another_profile_is_brought_to_srgb() -> None:
    """A profile whose red and blue primaries are swapped: its red shows as blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile = profile.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
    profile = profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    data = encode(Image.new("RGB", (64, 64), (255, 0, 0)), icc_profile=bytes(profile))
    assert np.abs(patches(data)[0, 0] - [0, 0, 255]).max() <= 3


def test_training_decodes_in_full_not_by_the_scaled_decode(build: Any) -> None:
    data = build.picture(width=640, height=480, kind="JPEG")
    full = Image.open(io.BytesIO(data))
    full.load()
    left = (640 - 480) // 2
    middle = full.resize((320, 240), Image.Resampling.BOX).resize((213, 160), Image.Resampling.BICUBIC)
    wanted = middle.crop(((213 - 160) // 2, 0, (213 - 160) // 2 + 160, 160))
    assert left == 80
    assert np.array_equal(load_rgb(data, 160), np.asarray(wanted))


def test_small_images_are_enlarged_bicubically(build: Any) -> None:
    data = build.picture(width=8, height=8)
    wanted = Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(load_rgb(data, 32), np.asarray(wanted))


@given(st.integers(4, 90), st.integers(4, 90), st.sampled_from([8, 16, 32, 33]))
@settings(max_examples=60, deadline=None)
def test_every_shape_is_cropped_to_the_size(width: int, height: int, size: int) -> None:
    image = Image.new("RGB", (width, height), (9, 99, 199))
    pixels = load_rgb(encode(image), size)
    assert pixels.shape == (size, size, 3)
    assert (pixels == (9, 99, 199)).all()


@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.lists(st.tuples(st.integers(0), st.binary(max_size=6)), max_size=5))
@settings(max_examples=150, deadline=None)
def test_no_mutation_ends_in_anything_but_a_verdict(kind: str, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(encode(chart(), kind))
    for place, patch in edits:
        at = place % len(data)
        data[at : at + len(patch)] = patch
    try:
        assert load_rgb(bytes(data), SIZE).shape == (SIZE, SIZE, 3)
    except RefusedError as error:
        assert error.code.endswith(("_image", "_format", "_large", "_small"))  # noqa: PT017  # or none is raised


@pytest.mark.parametrize(("side", "halvings"), [(63, 0), (64, 1), (127, 1), (128, 2)])
def test_images_are_halved_while_they_are_twice_too_large_or_just_that(side: int, halvings: int) -> None:
    """By ADM's rule at exactly twice the size too, where the boxes alone decide the picture."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    wanted = noise
    for _ in range(halvings):
        wanted = wanted.resize((wanted.width // 2, wanted.height // 2), Image.Resampling.BOX)
    if wanted.width != 32:
        wanted = wanted.resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(load_rgb(encode(noise), 32), np.asarray(wanted))
