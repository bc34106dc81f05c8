"""Validating an archive: ours against one process that reads, hashes and decodes every picture in full.

Beside whole pictures the archive has one of each way to be corrupt. Ours must refuse every one of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.harness.blocks import Side, alternate
from benchmarks.harness.claims import Bar, Claim, Guard, faster
from difftune_core.channel import SilentHooks
from difftune_core.data.validate import validate

BAR = Bar(at_least=1.4)
_SIDE, _IMAGES = 512, 240


def measured(folder: Path, images: int = _IMAGES) -> list[Claim]:
    """Time both on the whole pictures; the corrupt ones are another archive's."""
    torch.set_num_threads(1)
    whole, corrupt = folder / "whole.zip", folder / "corrupt.zip"
    names = write_archives(whole, corrupt, images)
    compared = alternate(
        Side("one process with Pillow", lambda: decoded_in_full(whole), images),
        Side("difftune", lambda: _report(whole, folder), images),
        blocks=5,
        block_s=0.0,
    )
    accepted, refused = _report(whole, folder), _report(corrupt, folder)
    caught = {finding["path"] for finding in refused["errors"]}
    missed = sorted(names - caught)
    guard = Guard(
        "every whole picture is taken and every corrupt one refused by name",
        accepted["ok"] and accepted["num_items"] == images and not missed,
        {"corrupt": len(names), "missed": missed},
    )
    return [faster("ingest", compared, bar=BAR, guard=guard, details={"images": images, "side": _SIDE})]


def decoded_in_full(archive: Path) -> int:
    """Read, hash and decode every file; the number of pictures that came out."""
    count = 0
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            data = opened.read(info)
            hashlib.sha256(data).hexdigest()
            with Image.open(io.BytesIO(data)) as image:
                image.convert("RGB").load()
            count += 1
    return count


def _report(archive: Path, folder: Path) -> dict[str, Any]:
    out = folder / "validated"
    out.mkdir(exist_ok=True)
    validate(archive, out, SilentHooks())
    found: dict[str, Any] = json.loads((out / "report.json").read_bytes())
    return found


def write_archives(whole: Path, corrupt: Path, images: int) -> set[str]:
    """Write both; the names of the corrupt files."""
    pictures = [_jpeg(number) for number in range(images)]
    with zipfile.ZipFile(whole, "w") as archive:
        for number, data in enumerate(pictures):
            archive.writestr(f"{number % 4}/{number:05}.jpg", data)
    bad = _corrupted(pictures[0])
    with zipfile.ZipFile(corrupt, "w") as archive:
        for number, data in enumerate(pictures[:40]):
            archive.writestr(f"{number % 4}/{number:05}.jpg", data)
        for name, data in bad.items():
            archive.writestr(f"0/{name}", data)
    return {f"0/{name}" for name in bad}


def _jpeg(seed: int) -> bytes:
    """A picture of smooth colours with grain, about 128 KB."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((_SIDE, _SIDE))
    grain = draw.normal(0, 12, (_SIDE, _SIDE, 3))
    return _saved(Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)), "JPEG", quality=90)


def _corrupted(picture: bytes) -> dict[str, bytes]:
    """Ways to be corrupt, by file name."""
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    png = _saved(image.resize((64, 64)), "PNG")
    frames = [image.resize((64, 64)).rotate(angle) for angle in (0, 90)]
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0x40
    return {
        "cut.jpg": picture[: len(picture) // 2],
        "cut-and-closed.jpg": picture[: len(picture) // 2] + b"\xff\xd9",
        "cut.png": png[: len(png) // 2],
        "flipped.png": bytes(flipped),
        "text.jpg": b"this is no picture\n" * 50,
        "empty.jpg": b"",
        "animated.webp": _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50),
        "bomb.png": _bomb(),
    }


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _bomb() -> bytes:
    """A PNG whose header promises 30000 x 30000 pixels."""
    small = bytearray(_saved(Image.new("RGB", (8, 8)), "PNG"))
    small[16:24] = struct.pack(">II", 30_000, 30_000)
    small[29:33] = struct.pack(">I", zlib.crc32(bytes(small[12:29])))
    return bytes(small)
