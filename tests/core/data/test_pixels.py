"""Images that are decoded when they are asked for: as those that were decoded at once, from any packaging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftune_core.data.copies import copy_keys
from difftune_core.data.dataset import open_dataset
from difftune_core.data.images import load_rgb
from difftune_core.data.item_files import ItemFiles
from difftune_core.data.pixels import Made, Pixels, parts_of
from difftune_core.hooks import TaskError
from difftune_core.runtime.caches import array_digest


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_images_by_index_are_those_of_the_whole(tmp_path: Path, build: Any, kind: str) -> None:
    files = dict(reversed(build.good(40).items()))
    dataset = open_dataset(build.packed(kind, tmp_path, files))
    whole = np.stack([load_rgb(files[item.path], 16) for item in dataset.items])
    images = Pixels(ItemFiles(dataset), "image", 16, cache=tmp_path / "cache")
    assert images.shape == whole.shape
    assert np.array_equal(images[3], whole[3])
    assert np.array_equal(images[70:2:-7], whole[70:2:-7])
    some = images.subset(np.array([9, 2, 2, 70]))
    assert np.array_equal(np.asarray(some), whole[[9, 2, 2, 70]])
    assert np.array_equal(np.concatenate(list(parts_of(images, 7))), whole)
    assert (images.digest, list(images.keys)) == (array_digest(whole), copy_keys(whole))
    assert some.digest == array_digest(whole[[9, 2, 2, 70]])


def test_what_was_seen_of_files_is_kept_until_they_are_others(tmp_path: Path, build: Any) -> None:
    def digest(size: int = 16) -> str:
        return Pixels(ItemFiles(open_dataset(tmp_path / "set")), "image", size, cache=tmp_path / "cache").digest

    folder = build.folder(tmp_path / "set", build.good())
    first = digest()
    kept = sorted((tmp_path / "cache").rglob("keys"))
    assert digest() == first
    assert sorted((tmp_path / "cache").rglob("keys")) == kept
    assert digest(8) != first
    (folder / "dog/1.png").write_bytes(build.picture(7))
    assert digest() != first


def test_shards_in_a_zip_are_read_in_any_order(tmp_path: Path, build: Any) -> None:
    shards, pictures = {}, {}
    for number in range(2):
        names = [f"cat/{number}{i}.png" for i in range(3)] + [f"dog/{number}{i}.png" for i in range(3)]
        files = {name: build.picture(3 * i + number) for i, name in enumerate(reversed(names))}
        pictures |= files
        shards[f"{number}.tar"] = build.tar(tmp_path / "one.tar", files).read_bytes()
    dataset = open_dataset(build.zip(tmp_path / "a.zip", shards))
    images = Pixels(ItemFiles(dataset, tmp_path), "image", 8)
    whole = np.stack([load_rgb(pictures["/".join(Path(item.path).parts[-2:])], 8) for item in dataset.items])
    assert np.array_equal(images[::-1], whole[::-1])
    assert not list(tmp_path.glob("tmp*")), "what was put aside has no name"


def test_damage_is_named_when_its_turn_comes(tmp_path: Path, build: Any) -> None:
    files = build.good()
    files["cat/9.jpg"] = build.picture(width=300, height=300, kind="JPEG")[:-2000]
    images = Pixels(ItemFiles(open_dataset(build.zip(tmp_path / "a.zip", files))), "image", 32)
    assert len(images[:2]) == 2
    with pytest.raises(TaskError, match=r"cat/9.jpg: .*truncated_image") as caught:
        images[:]
    assert caught.value.code == "invalid_dataset"


def test_images_that_are_made_begin_where_batches_begin() -> None:
    asked = []

    def make(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return np.arange(start, stop, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)

    made = Made((200, 1, 1, 3), make)
    assert np.array_equal(np.asarray(made)[:, 0, 0, 0], np.arange(200))
    assert np.array_equal(made[70:199:2][:, 0, 0, 0], np.arange(70, 199, 2))
    assert len(made[9:3]) == 0
    assert asked == [(0, 200), (64, 200)]
