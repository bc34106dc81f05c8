"""What is said of a set as a whole: names of classes, zips of other systems, controls that say nothing, small sets."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difftune_core.data.dataset import open_captioned
from difftune_core.data.decoded import load_rows
from tests.core.data.verdicts import judge


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def raw_zip(path: Path, build: Any, folders: dict[str, bytes], count: int = 3) -> Path:
    """A zip whose folders have these bytes as their names, without the flag that says UTF-8."""
    files = {f"{name}/{i}.png": build.picture(10 * n + i) for n, name in enumerate(folders) for i in range(count)}
    data = build.zip(path, files).read_bytes()
    for name, raw in folders.items():
        assert len(name) == len(raw)
        data = data.replace(f"{name}/".encode(), raw + b"/")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("other", ["Cat", "CAT", "cat ", " cat", "ｃａｔ"])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_similar_names_are_two_classes_whatever_their_files_are_called(
    tmp_path: Path, build: Any, recorder: Any, other: str, start: int
) -> None:
    files = {f"cat/{i}.png": build.picture(i) for i in range(3)}
    files |= {f"{other}/{start + i}.png": build.picture(10 + i) for i in range(3)}
    found = judge(build.tar(tmp_path / "a.tar", files), recorder)
    assert found.report["class_counts"] == {"cat": 3, other: 3}
    assert list(found.warnings.values()) == ["similar_class_names"]


@pytest.mark.parametrize(
    ("folders", "encoding"),
    [
        ({"AAAA": "ねこ", "BBBB": "いぬ"}, "cp932"),
        ({"AAAAAA": "三毛猫", "BBBB": "子犬"}, "cp932"),
        ({"AA": "猫", "BB": "狗"}, "gbk"),
        ({"AAAAAA": "고양이", "BBBBBB": "강아지"}, "cp949"),
        ({"AAAA": "사과", "BBBBBBBB": "딸기 (2)"}, "cp949"),
        ({"AA": "鸟", "BB": "马", "CCCC": "苹果", "DDDD": "飞机"}, "gbk"),
        ({"AAAAA": "熊猫1", "BBBBBBBBB": "红色（1）"}, "gbk"),
        ({"AAAA": "café", "BBBB": "Köln"}, "cp437"),
        ({"AAAAAA": "été été"[:6], "BBBBBB": "üöäßÄÖ"}, "cp437"),
        ({"AA": "îï", "BB": "äå"}, "cp437"),
        ({"AAAAA": "café", "BBBBBB": "ねこ"}, "utf-8"),
    ],
)
def test_names_of_a_zip_that_does_not_say_its_encoding(
    tmp_path: Path, build: Any, recorder: Any, folders: dict[str, str], encoding: str
) -> None:
    raw = {placeholder: name.encode(encoding) for placeholder, name in folders.items()}
    found = judge(raw_zip(tmp_path / "a.zip", build, raw), recorder)
    assert found.codes() == {}
    assert found.report["class_names"] == sorted(folders.values())


def test_a_name_in_the_extra_field_of_info_zip_counts(tmp_path: Path, build: Any, recorder: Any) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(3):
            raw, name = f"XX/{number}.png".encode(), f"ねこ/{number}.png".encode()
            info = zipfile.ZipInfo(raw.decode())
            body = b"\x01" + zipfile.crc32(raw).to_bytes(4, "little") + name
            info.extra = b"\x75\x70" + len(body).to_bytes(2, "little") + body
            archive.writestr(info, build.picture(number))
    assert judge(tmp_path / "a.zip", recorder).report["class_names"] == ["ねこ"]


def test_backslashes_of_windows_separate_folders(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {name.replace("/", "\\"): data for name, data in build.good().items()}
    found = judge(build.zip(tmp_path / "a.zip", {**files, "..\\x.png": build.picture(), "owl\\": b""}), recorder)
    assert found.report["class_counts"] == {"cat": 2, "dog": 2}
    assert found.codes() == {"..\\x.png": "unsafe_path"}
    assert found.warnings == {"owl": "empty_class_folder"}


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_an_empty_class_folder_is_warned_of(tmp_path: Path, build: Any, recorder: Any, kind: str) -> None:
    path = build.packed(kind, tmp_path, {f"set/{name}": data for name, data in build.good().items()})
    if kind == "folder":
        (path / "set" / "owl").mkdir()
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.mkdir("set/owl")
    found = judge(path, recorder)
    assert found.report["class_names"] == ["cat", "dog"]
    assert found.warnings == {"owl": "empty_class_folder"}


def test_three_images_of_one_class_are_warned_of(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {f"cat/{i}.png": build.picture(i) for i in range(3)}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert found.report["ok"]
    assert found.codes("warnings") == {"a.zip": "few_images", "cat": "single_class"}


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.95])
def test_a_cut_tar_is_damaged_whatever_its_headers_say(tmp_path: Path, build: Any, recorder: Any, share: float) -> None:
    large = {"cat/big.png": build.picture(1, width=200, height=200), **build.good()}
    path = build.tar(tmp_path / "a.tar", large)
    data = path.read_bytes()
    path.write_bytes(data[: max(600, int(share * len(data.rstrip(b"\0"))))])
    found = judge(path, recorder)
    assert found.codes() == {"a.tar": "damaged_archive"}
    assert "was the upload cut?" in found.message


def controlled(build: Any, controls: list[bytes]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for i, control in enumerate(controls):
        files |= {f"{i}.png": build.picture(i), f"{i}.txt": b"a cone", f"{i}.control.png": control}
    return files


def drawing(seed: int, ground: int, stroke: int) -> bytes:
    levels = np.zeros((20, 24, 4), np.uint8)
    levels[seed + 3, 2:20] = (stroke, stroke, stroke, 255)
    levels[..., 3] |= ground
    return png(Image.fromarray(levels))


@pytest.mark.parametrize("level", [0, 255, 128])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_controls_of_one_colour(tmp_path: Path, build: Any, recorder: Any, level: int, mode: str) -> None:
    plain = Image.new("L", (24, 20), level).convert(mode)
    plains = [png(plain), png(Image.new("RGB", (24, 20), (level, 0, 0)))]
    found = judge(build.zip(tmp_path / "a.zip", controlled(build, [*plains, build.picture(9)])), recorder)
    assert found.report["ok"]
    wanted = {"0.control.png", "1.control.png"} if mode != "1" or level != 128 else {"1.control.png"}
    assert wanted <= set(found.warnings)
    assert "2.control.png" not in found.warnings


def test_controls_that_are_their_images_or_one_for_all(tmp_path: Path, build: Any, recorder: Any) -> None:
    own = [build.picture(i) for i in range(3)]
    found = judge(build.zip(tmp_path / "a.zip", controlled(build, own)), recorder)
    assert found.warnings == {f"{i}.control.png": "control_is_image" for i in range(3)}
    recoded = png(Image.open(io.BytesIO(own[0])).convert("RGBA"))
    found = judge(
        build.zip(tmp_path / "b.zip", controlled(build, [recoded, build.picture(8), build.picture(9)])), recorder
    )
    assert found.warnings == {"0.control.png": "control_is_image"}
    found = judge(build.zip(tmp_path / "c.zip", controlled(build, [build.picture(9)] * 3)), recorder)
    assert found.warnings == {"0.control.png": "one_control"}


def test_transparent_controls_lie_on_black_and_say_so(tmp_path: Path, build: Any, recorder: Any) -> None:
    strokes = [drawing(i, ground=0, stroke=255) for i in range(3)]
    path = build.zip(tmp_path / "a.zip", controlled(build, strokes))
    assert judge(path, recorder).warnings == {f"{i}.control.png": "transparent_control" for i in range(3)}
    seen = np.asarray(load_rows(open_captioned(path), 20).controls)
    assert len(seen) == 3
    assert all(pixels.min() == 0 and pixels.max() > 200 and pixels.mean() < 64 for pixels in seen)
    lost = [drawing(i, ground=0, stroke=0) for i in range(3)]
    found = judge(build.zip(tmp_path / "b.zip", controlled(build, lost)), recorder)
    codes = {finding["code"] for finding in found.report["warnings"]}
    assert {"transparent_control", "constant_control"} <= codes
    opaque = [drawing(i, ground=255, stroke=255) for i in range(3)]
    assert judge(build.zip(tmp_path / "c.zip", controlled(build, opaque)), recorder).warnings == {}
