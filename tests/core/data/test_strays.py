"""Files that lie beside good images: no pictures are ignored and listed, bad pictures are named or skipped."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Limits
from difftune_core.data.dataset import open_captioned, open_dataset
from difftune_core.data.validate import validate
from difftune_core.hooks import TaskError
from tests.core.data.test_captioned import folder_form, stem_form
from tests.core.data.verdicts import judge

STRAYS = {
    "README.md": b"# birds",
    "LICENSE": b"MIT",
    "cat/labels.csv": b"a,b\n1,2\n",
    "notes.txt": b"hello",
    "dataset_infos.json": b"{}",
    "model.pkl": b"\x80\x04.",
    "empty.log": b"",
    "__MACOSX/cat/._0.png": b"x",
    "cat/.DS_Store": b"x",
    "dog/Thumbs.db": b"x",
}


@pytest.fixture
def strays(tmp_path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(tmp_path / "notes.docx", "w") as document:
        document.writestr("word/document.xml", "<w/>")
    return {**STRAYS, "notes.docx": (tmp_path / "notes.docx").read_bytes()}


@pytest.mark.parametrize("form", ["classes", "stems", "table"])
def test_stray_files_are_ignored_and_listed(
    tmp_path: Path, build: Any, recorder: Any, strays: dict[str, bytes], form: str
) -> None:
    good = {"classes": build.good, "stems": lambda: stem_form(build), "table": lambda: folder_form(build)}[form]()
    kind = {"classes": "zip", "stems": "tar.gz", "table": "folder"}[form]
    found = judge(build.packed(kind, tmp_path, {**good, **strays}), recorder)
    assert found.codes() == {}
    assert found.ignored == set(strays)
    assert all(finding["message"] for finding in found.report["ignored_files"])


def test_a_large_file_that_is_no_picture_is_not_read(tmp_path: Path, build: Any, recorder: Any) -> None:
    path = build.zip(tmp_path / "a.zip", {**build.good(), "talk.mp4": bytes(3000), "big.png": bytes(3000)})
    validate(path, tmp_path / "out", recorder, Limits(max_file_bytes=2000))
    report = (tmp_path / "out" / "report.json").read_text(encoding="utf-8")
    assert '"path": "big.png",\n      "code": "file_too_large"' in report
    assert '"path": "talk.mp4",\n      "code": "not_an_image"' in report


def test_pictures_of_formats_that_are_not_read_are_named(tmp_path: Path, build: Any, recorder: Any) -> None:
    jxl = b"\xff\x0a" + bytes(64)
    files = {**build.good(), "cat/a.gif": build.picture(kind="GIF"), "cat/b.jxl": jxl, "cat/c.png": b"no picture"}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert found.codes() == dict.fromkeys(("cat/a.gif", "cat/b.jxl", "cat/c.png"), "unsupported_format")
    assert "JPEG XL" in {f["path"]: f["message"] for f in found.report["errors"]}["cat/b.jxl"]


def test_one_text_beside_one_image_makes_no_captioned_set(tmp_path: Path, build: Any, recorder: Any) -> None:
    found = judge(build.zip(tmp_path / "a.zip", {**build.good(3), "cat/0.txt": b"a cat"}), recorder)
    assert (found.report["ok"], found.report["form"]) == (True, "class_folders")
    assert found.ignored == {"cat/0.txt"}
    assert found.warnings == {"cat/0.txt": "few_captions"}


def test_few_captions_are_counted(tmp_path: Path, build: Any, recorder: Any) -> None:
    images = {f"{name}/{i}.png": build.picture(10 * n + i) for n, name in enumerate(("cat", "dog")) for i in range(10)}
    for count, told in ((1, "cat/0.txt: only 1 of 20"), (3, "cat/0.txt and 2 more: only 3 of 20")):
        files = images | {f"cat/{i}.txt": b"a cat" for i in range(count)}
        found = judge(build.zip(tmp_path / "a.zip", files), recorder)
        (message,) = [line["message"] for line in found.report["warnings"] if line["code"] == "few_captions"]
        assert message.startswith(told)


def test_an_archive_among_the_images_is_warned_of(tmp_path: Path, build: Any, recorder: Any) -> None:
    inner = build.zip(tmp_path / "i.zip", build.good()).read_bytes()
    found = judge(build.zip(tmp_path / "a.zip", {**build.good(), "more.zip": inner}), recorder)
    assert found.report["ok"]
    assert found.warnings == {"more.zip": "nested_archive"}


@pytest.mark.parametrize("form", ["classes", "stems", "table"])
def test_skip_leaves_bad_files_out_and_trains_on_the_rest(tmp_path: Path, build: Any, recorder: Any, form: str) -> None:
    good, bad = {
        "classes": (build.good(20), "cat/cut.png"),
        "stems": (stem_form(build, 20), "0007.png"),
        "table": (folder_form(build, 20), "images/7.png"),
    }[form]
    path = build.zip(tmp_path / "a.zip", {**good, bad: build.picture(7)[:-30]})
    assert judge(path, recorder).codes() == {bad: "truncated_image"}
    found = judge(path, recorder, on_bad_files="skip")
    assert found.codes() == {}
    assert found.codes("skipped_files") == {bad: "truncated_image"}
    opened: Any = open_dataset if form == "classes" else open_captioned
    dataset = opened(path, DatasetOptions(on_bad_files="skip"))
    assert [item.path for item in dataset.items] == [item["path"] for item in found.items]
    assert bad not in {item.path for item in dataset.items}
    assert dataset.digest == found.report["digest"]


def test_skip_has_a_bound(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {**build.good(4), "cat/cut.png": build.picture(7)[:-30], "dog/cut.png": build.picture(8)[:-30]}
    path = build.zip(tmp_path / "a.zip", files)
    found = judge(path, recorder, on_bad_files="skip")
    assert found.codes() == {
        path.name: "too_many_bad_files",
        **dict.fromkeys(("cat/cut.png", "dog/cut.png"), "truncated_image"),
    }
    assert "2 files or rows of 10 would be left out (20%)" in found.message
    assert judge(path, recorder, on_bad_files="skip", max_skipped_share=0.2).report["ok"]
    with pytest.raises(TaskError, match="max_skipped_share"):
        open_dataset(path, DatasetOptions(on_bad_files="skip"))
