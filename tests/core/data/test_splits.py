"""Folders that are splits: never merged and never classes; a setting says which is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.dataset import open_captioned, open_dataset
from tests.core.data.test_captioned import folder_form, stem_form
from tests.core.data.verdicts import judge


def in_splits(files: dict[str, bytes], *splits: str, above: str = "") -> dict[str, bytes]:
    return {f"{above}{split}/{name}": data for split in splits for name, data in files.items()}


def form(build: Any, kind: str) -> dict[str, bytes]:
    good: dict[str, bytes] = {"classes": build.good(), "stems": stem_form(build), "table": folder_form(build)}[kind]
    return good


@pytest.mark.parametrize("kind", ["classes", "stems", "table"])
@pytest.mark.parametrize("others", [("test",), ("val",), ("Validation", "TEST"), ("valid",)])
def test_splits_are_refused_with_advice(
    tmp_path: Path, build: Any, recorder: Any, kind: str, others: tuple[str, ...]
) -> None:
    files = in_splits(form(build, kind), "train", *others, above="birds/")
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert found.codes() == {"a.zip": "splits_found"}
    assert "training_file" in found.message
    assert "validation_file" in found.message
    assert "`splits`" in found.message


def test_flat_splits_are_no_two_classes(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = in_splits({f"{i}.png": build.picture(i) for i in range(3)}, "train", "test")
    assert judge(build.zip(tmp_path / "a.zip", files), recorder).codes() == {"a.zip": "splits_found"}


def test_a_class_may_be_called_train(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {f"{name}/{i}.png": build.picture(10 * i + len(name)) for name in ("train", "bus") for i in range(3)}
    assert judge(build.zip(tmp_path / "a.zip", files), recorder).report["class_names"] == ["bus", "train"]


@pytest.mark.parametrize("kind", ["classes", "stems", "table"])
def test_one_split_can_be_taken(tmp_path: Path, build: Any, recorder: Any, kind: str) -> None:
    files = {**in_splits(form(build, kind), "train", "test"), "README.md": b"x"}
    path = build.zip(tmp_path / "a.zip", files)
    alone = judge(build.zip(tmp_path / "b.zip", in_splits(form(build, kind), "train")), recorder)
    found = judge(path, recorder, splits="train")
    assert found.codes() == {}
    assert [item["path"] for item in found.items] == [item["path"] for item in alone.items]
    assert found.report["digest"] == alone.report["digest"]
    left_out = {code for path, code in found.codes("ignored_files").items() if path.startswith("test/")}
    assert left_out == {"other_split"}
    assert judge(path, recorder, splits="validation").codes() == {"a.zip": "no_split"}


def test_splits_within_class_folders_are_seen_too(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {f"{n}/{s}/{i}.png": build.picture(i) for n in ("cat", "dog") for s in ("train", "val") for i in range(3)}
    path = build.tar(tmp_path / "a.tar", files)
    assert judge(path, recorder).codes() == {"a.tar": "splits_found"}
    assert judge(path, recorder, splits="train").report["class_counts"] == {"cat": 3, "dog": 3}


def test_one_table_above_the_splits_is_read_for_the_one_that_is_meant(
    tmp_path: Path, build: Any, recorder: Any
) -> None:
    lines = [f'{{"file_name": "{s}/{i}.png", "text": "{s} {i}"}}' for s in ("train", "val") for i in range(3)]
    files = {f"{s}/{i}.png": build.picture(i) for s in ("train", "val") for i in range(3)}
    path = build.zip(tmp_path / "a.zip", {**files, "metadata.jsonl": "\n".join(lines).encode()})
    found = judge(path, recorder, splits="validation")
    assert found.codes() == {}
    assert [item["caption"] for item in found.items] == ["val 0", "val 1", "val 2"]


@pytest.mark.parametrize("kind", ["classes", "stems"])
def test_hold_out_judges_both_parts_and_keeps_them_apart(tmp_path: Path, build: Any, recorder: Any, kind: str) -> None:
    good = form(build, kind)
    files = {**in_splits(good, "train", "val", "test"), "README.md": b"x"}
    path = build.zip(tmp_path / "a.zip", files)
    found = judge(path, recorder, splits="hold_out")
    assert found.codes() == {}
    assert found.report["num_items"] == found.report["num_held_out"]
    assert found.report["accepted"] == 2 * len(good)
    assert found.ignored == {"README.md", *in_splits(good, "test")}
    options = DatasetOptions(splits="hold_out")
    opened: Any = open_dataset if kind == "classes" else open_captioned
    assert {item.path.split("/")[0] for item in opened(path, options).items} == {"train"}
    assert {item.path.split("/")[0] for item in opened(path, options.held_out()).items} == {"val"}


def test_both_parts_of_hold_out_must_have_the_same_classes(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {
        **in_splits(build.good(), "train", "val"),
        "val/owl/0.png": build.picture(1),
        "val/owl/1.png": build.picture(2),
    }
    found = judge(build.zip(tmp_path / "a.zip", files), recorder, splits="hold_out")
    assert found.codes() == {"owl": "class_mismatch"}
