"""Previews of a data set: small pictures that are found by an item's place, with and without controls."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from difftune_core.config.previews import ENTRY, FIRST, FOOTER, MAGIC, SIDE, Entry
from difftune_core.data import previews
from difftune_core.data.images import check_image
from difftune_core.data.validate import validate


def read(out: Path) -> tuple[bytes, list[Entry], list[int]]:
    """The file, its entries and the places of its classes."""
    data = (out / "previews.bin").read_bytes()
    magic, num_items, num_classes = FOOTER.unpack(data[-FOOTER.size :])
    assert magic == MAGIC
    behind = len(data) - FOOTER.size - num_classes * FIRST.size
    entries = ENTRY.iter_unpack(data[behind - num_items * ENTRY.size : behind])
    firsts = FIRST.iter_unpack(data[behind : -FOOTER.size])
    return data, [Entry(*values) for values in entries], [place for (place,) in firsts]


def test_each_item_has_its_picture_and_its_line(tmp_path: Path, build: Any, recorder: Any) -> None:
    photo, wide = build.picture(7, kind="JPEG", width=600, height=300), build.picture(8, width=300, height=100)
    files = {**build.good(), "ant/b.jpg": photo, "ant/a.png": wide}
    validate(build.zip(tmp_path / "a.zip", files), tmp_path / "out", recorder)
    data, entries, firsts = read(tmp_path / "out")
    lines = (tmp_path / "out" / "items.jsonl").read_bytes()
    items = [json.loads(lines[entry.line :].partition(b"\n")[0]) for entry in entries]
    assert [item["path"] for item in items] == sorted(files)
    assert [items[place]["class_name"] for place in firsts] == sorted({path.partition("/")[0] for path in files})
    for item, entry in zip(items, entries, strict=True):
        with Image.open(io.BytesIO(data[entry.image : entry.image + entry.image_bytes])) as shown:
            assert max(shown.size) == min(SIDE, max(item["width"], item["height"]))
            assert shown.width * item["height"] == pytest.approx(shown.height * item["width"], rel=0.05)
        assert entry.control_bytes == 0


def test_a_turned_photo_stands_upright() -> None:
    image, buffer = Image.new("RGB", (400, 200), (250, 0, 0)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    kept: list[bytes] = []
    check_image(buffer.getvalue(), keep=kept.append)
    with Image.open(io.BytesIO(kept[0])) as shown:
        assert shown.size == (SIDE // 2, SIDE)


def test_a_control_is_beside_its_image(tmp_path: Path, build: Any, recorder: Any) -> None:
    rows = [{"file_name": f"{n}.png", "text": "a thing", "conditioning_image_file_name": f"c{n}.png"} for n in range(2)]
    files = {name: build.picture(n) for n, name in enumerate(["0.png", "1.png", "c0.png", "c1.png"])}
    files["metadata.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    validate(build.zip(tmp_path / "a.zip", files), tmp_path / "out", recorder)
    _, entries, firsts = read(tmp_path / "out")
    assert [bool(entry.image_bytes and entry.control_bytes) for entry in entries] == [True, True]
    assert firsts == []


def test_of_a_large_set_the_first_of_each_folder_are_kept(
    tmp_path: Path, build: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "MOST_OF_ALL", 3)
    monkeypatch.setattr(previews, "MOST_OF_FOLDER", 2)
    files = {f"{name}/{n}.png": build.picture(n) for name in ("a", "b", "c") for n in range(4)}
    validate(build.zip(tmp_path / "a.zip", files), tmp_path / "out", recorder)
    _, entries, _ = read(tmp_path / "out")
    assert [entry.image_bytes > 0 for entry in entries] == [True, True, True, False] + 2 * [True, True, False, False]


def test_a_set_that_cannot_be_read_has_none(tmp_path: Path, recorder: Any) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 cut")
    validate(tmp_path / "a.zip", tmp_path / "out", recorder)
    assert read(tmp_path / "out") == (FOOTER.pack(MAGIC, 0, 0), [], [])
