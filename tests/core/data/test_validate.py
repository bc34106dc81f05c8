from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Limits
from difftune_core.data.dataset import open_dataset
from difftune_core.data.validate import validate
from difftune_core.hooks import ArtifactEvent, PhaseEvent, ProgressEvent, TaskError


def run(path: Path, hooks: Any, limits: Limits | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report and the items, with what must hold for every report."""
    out = path.parent / "out"
    validate(path, out, hooks, limits)
    report = json.loads((out / "report.json").read_text())
    items = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert report["accepted"] + report["rejected"] + report["ignored"] == report["entries"]
    assert report["num_items"] == report["accepted"] == len(items) == sum(report["class_counts"].values())
    assert report["ok"] == (not report["errors"])
    assert {f["severity"] for f in report["errors"]} <= {"error"}
    assert {f["severity"] for f in report["warnings"]} <= {"warning"}
    return report, items


def found(report: dict[str, Any], kind: str = "errors") -> dict[str, str]:
    return {finding["path"]: finding["code"] for finding in report[kind]}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_a_good_data_set(tmp_path: Path, build: Any, recorder: Any, kind: str) -> None:
    path = build.packed(kind, tmp_path, {**build.good(3), "cat/.DS_Store": b"x"})
    report, items = run(path, recorder)
    assert report["ok"]
    assert found(report, "warnings") == {path.name: "few_images"}
    assert report["class_counts"] == {"cat": 3, "dog": 3}
    assert (report["entries"], report["accepted"], report["rejected"], report["ignored"]) == (7, 6, 0, 1)
    assert report["digest"] == open_dataset(path).digest
    first = build.good(3)["cat/0.png"]
    assert items[0] == {
        "path": "cat/0.png", "class_name": "cat", "label": 0, "bytes": len(first), "width": 24, "height": 20,
        "format": "PNG", "sha256": hashlib.sha256(first).hexdigest(),
    }  # fmt: skip


def test_every_bad_file_is_named(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {
        **build.good(),
        "cat/cut.jpg": build.picture(width=300, height=300, kind="JPEG")[:-500],
        "dog/empty.png": b"",
        "owl/only.png": build.picture(50),
        "../x.png": build.picture(51),
        "dog/notes.txt": b"not an image",
        "top.png": build.picture(52),
        "dog/inner/deep.png": build.picture(53),
        "dog/inner.zip": build.zip(tmp_path / "i.zip", build.good()).read_bytes(),
    }
    report, _ = run(build.zip(tmp_path / "a.zip", files), recorder)
    assert not report["ok"]
    assert found(report) == {
        "cat/cut.jpg": "truncated_image",
        "dog/empty.png": "empty_file",
        "owl": "class_too_small",
        "../x.png": "unsafe_path",
        "top.png": "no_class_folder",
        "dog/inner/deep.png": "nested_folder",
    }
    assert found(report, "ignored_files") == {"dog/notes.txt": "not_an_image", "dog/inner.zip": "not_an_image"}
    assert found(report, "warnings")["dog/inner.zip"] == "nested_archive"
    assert (report["entries"], report["accepted"], report["rejected"], report["ignored"]) == (12, 5, 5, 2)


def test_text_named_zip(tmp_path: Path, recorder: Any) -> None:
    (tmp_path / "set.zip").write_text("I am no archive\n" * 50)
    report, _ = run(tmp_path / "set.zip", recorder)
    assert found(report) == {"set.zip": "not_an_archive"}
    assert report["digest"] is None


def test_no_images_at_all(tmp_path: Path, build: Any, recorder: Any) -> None:
    assert found(run(build.zip(tmp_path / "a.zip", {}), recorder)[0]) == {"a.zip": "no_images"}
    report, _ = run(build.zip(tmp_path / "b.zip", {"cat/a.txt": b"hello"}), recorder)
    assert found(report) == {"b.zip": "no_images"}


def test_duplicates_are_warnings(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = build.good()
    files |= {"cat/again.png": files["cat/0.png"], "dog/same.png": files["cat/1.png"]}
    report, _ = run(build.zip(tmp_path / "a.zip", files), recorder)
    assert report["ok"]
    assert found(report, "warnings") == {
        "a.zip": "few_images",
        "cat/again.png": "duplicate_image",
        "dog/same.png": "conflicting_label",
    }
    assert (report["num_repeated"], report["num_relabelled"], report["num_shared"]) == (2, 1, 0)


def test_copies_are_counted_by_their_pixels(tmp_path: Path, build: Any, recorder: Any) -> None:
    """Whatever their files' names, formats and compression are; a JPEG is a copy where its file is one."""
    files = build.good()
    photo = build.picture(9, kind="JPEG")
    with Image.open(io.BytesIO(files["cat/0.png"])) as picture:
        again = io.BytesIO()
        picture.save(again, "WEBP", lossless=True, exact=True)
    files |= {"cat/saved.webp": again.getvalue(), "cat/photo.jpg": photo, "dog/photo.jpg": photo}
    report, _ = run(build.zip(tmp_path / "a.zip", files), recorder)
    assert (report["num_repeated"], report["num_relabelled"], report["num_shared"]) == (2, 1, 0)
    both = {f"{split}/{name}": data for split in ("train", "val") for name, data in build.good().items()}
    validate(build.zip(tmp_path / "b.zip", both), tmp_path / "o", recorder, options=DatasetOptions(splits="hold_out"))
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert (report["num_repeated"], report["num_relabelled"], report["num_shared"]) == (0, 0, 4)


def test_limits_make_the_set_invalid_with_a_reason(tmp_path: Path, build: Any, recorder: Any) -> None:
    path = build.zip(tmp_path / "a.zip", build.good())
    assert found(run(path, recorder, Limits(max_entries=2))[0]) == {"a.zip": "too_many_entries"}
    assert found(run(path, recorder, Limits(max_total_bytes=100))[0]) == {"a.zip": "archive_too_large"}


def test_events_tell_phase_progress_and_all_files(tmp_path: Path, build: Any, recorder: Any) -> None:
    run(build.zip(tmp_path / "a.zip", build.good(150)), recorder)
    phases = [e.phase for e in recorder.events if isinstance(e, PhaseEvent)]
    progress = [(e.done, e.total) for e in recorder.events if isinstance(e, ProgressEvent)]
    artifacts = {e.kind: e.file for e in recorder.events if isinstance(e, ArtifactEvent)}
    assert phases == ["validating"]
    assert progress[-1] == (300, 300)
    assert progress == sorted(progress)
    assert 10 <= len(progress) <= 101
    assert set(artifacts) == {"items", "previews", "validation_report"}
    for file in artifacts.values():
        data = (tmp_path / "out" / file.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)


def test_a_wish_to_stop_is_followed(tmp_path: Path, build: Any, recorder: Any) -> None:
    recorder.stop_after = 3
    with pytest.raises(TaskError) as caught:
        validate(build.zip(tmp_path / "a.zip", build.good(10)), tmp_path / "out", recorder)
    assert caught.value.code == "stopped"
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_outside_the_out_folder(tmp_path: Path, build: Any, recorder: Any) -> None:
    hostile = {"../../escape.png": build.picture(), "/tmp/escape.png": build.picture(1), **build.good()}
    run(build.tar(tmp_path / "in.tar", hostile), recorder)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "in.tar", "out", "out/items.jsonl", "out/previews.bin", "out/report.json",
    ]  # fmt: skip
