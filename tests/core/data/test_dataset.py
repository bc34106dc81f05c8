from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftune_core.data.dataset import open_dataset
from difftune_core.data.decoded import decoded
from difftune_core.data.images import load_rgb
from difftune_core.hooks import TaskError

KINDS = ["zip", "tar", "tar.gz", "folder"]


def code(path: Path) -> str:
    with pytest.raises(TaskError) as caught:
        open_dataset(path)
    return caught.value.code


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("root", ["", "my digits/"])
def test_the_same_data_set_in_any_packaging(tmp_path: Path, build: Any, kind: str, root: str) -> None:
    files = {f"{root}{name}": data for name, data in reversed(build.good(3).items())}
    dataset = open_dataset(build.packed(kind, tmp_path, files))
    assert dataset.class_names == ("cat", "dog")
    assert [item.path for item in dataset.items] == sorted(files)
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.digest == open_dataset(build.folder(tmp_path / "same", build.good(3))).digest


@pytest.mark.parametrize("kind", KINDS)
def test_images_come_in_the_order_of_the_items(tmp_path: Path, build: Any, kind: str) -> None:
    files = dict(reversed(build.good(3).items()))
    dataset = open_dataset(build.packed(kind, tmp_path, files))
    images = np.asarray(decoded(dataset, 16).pixels)
    wanted = np.stack([load_rgb(files[name], 16) for name in sorted(files)])
    assert np.array_equal(images, wanted)
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_digest_is_of_classes_and_contents_in_order_not_of_file_names(tmp_path: Path, build: Any) -> None:
    files = build.good()
    renamed = {name.replace(".png", "x.png"): data for name, data in files.items()}
    reordered = {name.replace("0.png", "9.png"): data for name, data in files.items()}
    swapped = {name.replace("cat", "tmp").replace("dog", "cat").replace("tmp", "dog"): d for name, d in files.items()}
    variants = (files, renamed, reordered, swapped)
    digests = [open_dataset(build.folder(tmp_path / str(i), f)).digest for i, f in enumerate(variants)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_classes_are_sorted_by_code_point(tmp_path: Path, build: Any) -> None:
    names = ["b", "B", "10", "9", "\u00e9"]
    files = {f"{name}/{i}.png": build.picture(i) for i, name in enumerate(names)}
    assert open_dataset(build.zip(tmp_path / "a.zip", files)).class_names == ("10", "9", "B", "b", "\u00e9")


def test_bad_data_is_refused_by_name(tmp_path: Path, build: Any) -> None:
    bad = build.zip(tmp_path / "bad.zip", {**build.good(), "cat/a.gif": build.picture(kind="GIF")})
    with pytest.raises(TaskError, match=r"cat/a.gif: .*GIF.*unsupported_format") as caught:
        open_dataset(bad)
    assert (caught.value.code, caught.value.param) == ("invalid_dataset", "cat/a.gif")
    assert code(build.zip(tmp_path / "empty.zip", {})) == "no_images"
    assert code(build.zip(tmp_path / "flat.zip", {"a.png": build.picture()})) == "invalid_dataset"
    deep = {"s/cat/a.png": build.picture(), "s/train/cat/a.png": build.picture()}
    assert code(build.zip(tmp_path / "deep.zip", deep)) == "invalid_dataset"


def test_a_file_that_changed_after_listing_is_named(tmp_path: Path, build: Any) -> None:
    folder = build.folder(tmp_path / "set", build.good())
    dataset = open_dataset(folder)
    (folder / "dog/1.png").write_bytes(build.picture(7))
    with pytest.raises(TaskError, match=r"dog/1.png changed"):
        np.asarray(decoded(dataset, 8).pixels)
    (folder / "dog/1.png").unlink()
    with pytest.raises(TaskError, match=r"dog/1.png is gone"):
        np.asarray(decoded(dataset, 8).pixels)


def test_truncation_that_the_listing_does_not_see_is_found_when_loading(tmp_path: Path, build: Any) -> None:
    files = build.good()
    files["cat/9.jpg"] = build.picture(width=300, height=300, kind="JPEG")[:-2000]
    dataset = open_dataset(build.zip(tmp_path / "a.zip", files))
    with pytest.raises(TaskError, match=r"cat/9.jpg: .*truncated_image"):
        np.asarray(decoded(dataset, 32).pixels)
