"""What a validation has left is read in place of the files; where it is not whole, the files are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftune_core.channel import SilentHooks
from difftune_core.config.dataset import DatasetOptions, Validated
from difftune_core.data.dataset import open_captioned, open_dataset
from difftune_core.data.decoded import decoded
from difftune_core.data.validate import validate
from difftune_core.hooks import TaskError


def validated(path: Path, out: Path, **options: Any) -> Validated:
    import json

    validate(path, out, SilentHooks(), options=DatasetOptions(**options))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["ok"]
    return Validated(items=out / "items.jsonl", digest=report["digest"])


@pytest.fixture
def classes(tmp_path: Path, build: Any) -> Path:
    return Path(build.folder(tmp_path / "set", build.good(3)))


@pytest.fixture
def captioned(tmp_path: Path, build: Any) -> Path:
    texts = {f"{n}.txt": f"caption {n}, \u00e9".encode() for n in range(3)}
    pictures = {f"{n}.png": build.picture(n) for n in range(3)}
    controls = {f"{n}.control.png": build.picture(10 + n) for n in range(3)}
    return Path(build.folder(tmp_path / "set", texts | pictures | controls))


@pytest.mark.parametrize(("form", "opened"), [("classes", open_dataset), ("captioned", open_captioned)])
def test_items_are_those_of_the_files(request: Any, tmp_path: Path, form: str, opened: Callable[..., Any]) -> None:
    path = request.getfixturevalue(form)
    found = validated(path, tmp_path / "out")
    told, looked = opened(path, validated=found), opened(path)
    assert list(told.items) == list(looked.items)
    assert told.digest == looked.digest == found.digest


def test_files_are_not_looked_at_but_when_they_are_loaded(tmp_path: Path, build: Any, classes: Path) -> None:
    found = validated(classes, tmp_path / "out")
    (classes / "dog/1.png").write_bytes(build.picture(7))
    dataset = open_dataset(classes, validated=found)
    assert dataset.digest == found.digest
    with pytest.raises(TaskError, match=r"dog/1\.png changed"):
        np.asarray(decoded(dataset, 8).pixels)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-200],
        lambda text: text.replace("dog", "cat"),
        lambda text: text.replace('"width"', '"breadth"', 1),
        lambda _: "",
        lambda _: "[1]\n",
        None,
    ],
    ids=["cut", "another class", "another version's", "empty", "no rows", "lost"],
)
def test_what_is_not_whole_is_passed_over(tmp_path: Path, classes: Path, damage: Any) -> None:
    found = validated(classes, tmp_path / "out")
    if damage is None:
        found.items.unlink()
    else:
        found.items.write_text(damage(found.items.read_text(encoding="utf-8")), encoding="utf-8")
    assert list(open_dataset(classes, validated=found).items) == list(open_dataset(classes).items)


def test_skipped_files_stay_out(tmp_path: Path, build: Any) -> None:
    path = build.folder(tmp_path / "set", {**build.good(6), "cat/9.png": build.picture()[:-30]})
    options = {"on_bad_files": "skip"}
    found = validated(path, tmp_path / "out", **options)
    told = open_dataset(path, DatasetOptions(**options), validated=found)
    assert "cat/9.png" not in {item.path for item in told.items}
    assert list(told.items) == list(open_dataset(path, DatasetOptions(**options)).items)
