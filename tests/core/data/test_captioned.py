from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftune_core.data.dataset import open_captioned
from difftune_core.data.decoded import load_rows
from difftune_core.data.images import load_rgb
from difftune_core.data.validate import validate
from difftune_core.hooks import TaskError


def table(rows: list[Any]) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def row(number: int, **more: Any) -> dict[str, Any]:
    control = {"conditioning_image_file_name": f"controls/{number}.png"}
    return {"file_name": f"images/{number}.png", "text": f"picture number {number}", **control, **more}


def folder_form(build: Any, count: int = 3) -> dict[str, bytes]:
    files = {"metadata.jsonl": table([row(i) for i in range(count)])}
    for i in range(count):
        files |= {f"images/{i}.png": build.picture(i), f"controls/{i}.png": build.picture(100 + i)}
    return files


def stem_form(build: Any, count: int = 3) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for i in range(count):
        files |= {f"{i:04}.png": build.picture(i), f"{i:04}.control.png": build.picture(100 + i)}
        files[f"{i:04}.txt"] = f"picture number {i}\n".encode()
    return files


def judge(path: Path, hooks: Any) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The report, and its errors as path -> codes; what must hold for every report is checked."""
    out = path.parent / "out"
    validate(path, out, hooks)
    report = json.loads((out / "report.json").read_text())
    items = (out / "items.jsonl").read_text().splitlines()
    assert report["accepted"] + report["rejected"] + report["ignored"] == report["entries"]
    assert report["num_items"] == len(items)
    assert report["ok"] == (not report["errors"])
    found: dict[str, list[str]] = {}
    for finding in report["errors"]:
        found.setdefault(finding["path"], []).append(finding["code"])
    return report, found


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
@pytest.mark.parametrize("form", [folder_form, stem_form])
def test_good_data_sets_of_both_forms(tmp_path: Path, build: Any, recorder: Any, kind: str, form: Any) -> None:
    path = build.packed(kind, tmp_path, form(build))
    report, errors = judge(path, recorder)
    assert errors == {}
    assert (report["num_items"], report["num_captions"], report["has_controls"]) == (3, 3, True)
    assert report["rejected"] == 0
    opened = open_captioned(path)
    assert [item.caption for item in opened.items] == [f"picture number {i}" for i in range(3)]
    assert opened.digest == report["digest"]
    other = build.packed("zip", tmp_path, {f"top/{name}": data for name, data in stem_form(build).items()})
    assert open_captioned(other).digest == opened.digest


def test_each_row_has_its_own_image_and_control(tmp_path: Path, build: Any) -> None:
    files = folder_form(build)
    dataset = open_captioned(build.zip(tmp_path / "a.zip", files))
    assert dataset.has_controls
    rows = load_rows(dataset, 16)
    for folder, seen in (("images", rows.pixels), ("controls", rows.controls)):
        assert np.array_equal(seen, [load_rgb(files[f"{folder}/{i}.png"], 16) for i in range(3)])


def test_one_control_may_serve_several_rows(tmp_path: Path, build: Any) -> None:
    shared = [row(i, conditioning_image_file_name="controls/0.png") for i in range(2)]
    files = {name: data for name, data in folder_form(build, 2).items() if name != "controls/1.png"}
    dataset = open_captioned(build.zip(tmp_path / "a.zip", {**files, "metadata.jsonl": table(shared)}))
    controls = load_rows(dataset, 16).controls
    assert np.array_equal(controls, [load_rgb(files["controls/0.png"], 16)] * 2)


def test_without_controls_in_any_row(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {name: data for name, data in stem_form(build).items() if "control" not in name}
    path = build.tar(tmp_path / "a.tar", files)
    report, errors = judge(path, recorder)
    assert errors == {}
    assert not report["has_controls"]
    assert not open_captioned(path).has_controls


def test_every_row_and_file_at_fault_is_named(tmp_path: Path, build: Any, recorder: Any) -> None:
    rows = [
        row(0),
        row(1, text="  "),
        b'{"file_name": "images/2.png", "text": ',
        row(0),
        row(9),
        row(3),
        row(4, conditioning_image_file_name=None),
        row(5, text=None),
        row(6),
        ["no object"],
        row(7, file_name="../7.png"),
        row(8, conditioning_image_file_name="images/8.png"),
        {"text": "no file"},
        row(10, control_file_name="controls/10.png"),
    ]
    files = {**folder_form(build, 9), "metadata.jsonl": table(rows)}
    files["controls/3.png"] = build.picture(1, width=25)
    files["images/6.png"] = files["images/6.png"][:-20]
    report, errors = judge(build.zip(tmp_path / "a.zip", files), recorder)
    lines = {int(path.rpartition(":")[2]): codes for path, codes in errors.items() if path.startswith("metadata")}
    assert lines == {
        2: ["missing_caption"],
        3: ["unreadable_row"],
        4: ["duplicate_row"],
        5: ["missing_file"],
        6: ["control_size"],
        7: ["missing_control"],
        8: ["missing_caption"],
        10: ["unreadable_row"],
        11: ["unsafe_path"],
        12: ["unreadable_row"],
        13: ["unreadable_row"],
        14: ["unreadable_row"],
    }
    assert errors["images/6.png"] == ["truncated_image"]
    assert errors["images/2.png"] == ["unused_file"]  # its line could not be read
    assert "images/1.png" not in errors  # its row is named
    assert report["num_items"] == 1
    with pytest.raises(TaskError) as caught:
        open_captioned(tmp_path / "a.zip")
    assert caught.value.code == "invalid_dataset"


def test_messages_name_files_and_sizes(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {**stem_form(build), "0001.control.png": build.picture(7, width=30), "0002.txt": b"\n"}
    del files["0000.control.png"]
    report, _ = judge(build.tar(tmp_path / "a.tar", files), recorder)
    messages = {finding["path"]: finding["message"] for finding in report["errors"]}
    assert messages["0001.png"] == "the control image 0001.control.png is 30 x 20, its image 0001.png 24 x 20"
    assert messages["0000.png"] == "the image has no control image, as 1 others have"
    assert messages["0002.png"] == "0002.txt: the image has no caption: nothing in it is visible"


def test_stems_without_caption_and_files_without_image_are_named(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {**stem_form(build), "0007.txt": b"alone", "0008.json": b"{}", "0009.txt": b"\xff\xfe\x00"}
    files |= {"0009.png": build.picture(9), "0009.control.png": build.picture(8), "0002.jpg": build.picture(3)}
    del files["0001.txt"]
    report, errors = judge(build.tar(tmp_path / "a.tar", files), recorder)
    assert errors["0001.png"][0] == errors["0009.png"][0] == "missing_caption"
    messages = [finding["message"] for finding in report["errors"] if finding["path"] == "0001.png"]
    assert "the image has no caption: no .txt or .caption file has its stem" in messages, "the path says which"
    assert errors["0002.png"][0] == "unreadable_row"
    ignored = {finding["path"]: finding["code"] for finding in report["ignored_files"]}
    assert ignored == {"0007.txt": "no_row", "0008.json": "no_row"}


def test_damage_and_emptiness_are_reports_too(tmp_path: Path, build: Any, recorder: Any) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no more")
    assert judge(tmp_path / "a.zip", recorder)[1] == {"a.zip": ["damaged_archive"]}
    assert judge(build.zip(tmp_path / "one.zip", stem_form(build, 1)), recorder)[1] == {"one.zip": ["too_few_rows"]}
    assert judge(build.zip(tmp_path / "b.zip", {}), recorder)[1] == {"b.zip": ["no_images"]}
    with pytest.raises(TaskError, match="no image with a caption"):
        open_captioned(tmp_path / "b.zip")


def test_the_same_image_twice_is_a_warning(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {**stem_form(build), "0002.png": build.picture(1)}
    report, errors = judge(build.tar(tmp_path / "a.tar", files), recorder)
    assert errors == {}
    assert [(w["path"], w["code"]) for w in report["warnings"]] == [
        ("a.tar", "few_images"),
        ("0002.png", "duplicate_image"),
    ]


def test_files_that_changed_or_went_since_are_named(tmp_path: Path, build: Any) -> None:
    path = build.folder(tmp_path / "set", stem_form(build))
    dataset = open_captioned(path)
    (path / "0001.control.png").write_bytes(build.picture(55))
    with pytest.raises(TaskError, match=r"0001\.control\.png changed"):
        np.asarray(load_rows(dataset, 16).controls)
    (path / "0001.control.png").unlink()
    with pytest.raises(TaskError, match=r"0001\.control\.png is gone"):
        np.asarray(load_rows(dataset, 16).controls)


def test_deeply_nested_lines_are_refused(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {**folder_form(build), "metadata.jsonl": b"[" * 100_000 + b"\n" + table([row(i) for i in range(3)])}
    assert judge(build.zip(tmp_path / "a.zip", files), recorder)[1] == {"metadata.jsonl:1": ["unreadable_row"]}
