"""What is asked of the two files of a run before anything is trained on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from difftune_core.config.dataset import DatasetOptions, Splits
from difftune_core.data.decoded import Images
from difftune_core.families.preparation import Folders, Preparation
from difftune_core.families.rows import class_rows
from difftune_core.families.table import find_base_model
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from tests.core.conftest import RecordingHooks
from tests.core.runs import BUNDLED, ToyFolders, toy_folders


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def prepared(
    toy: ToyFolders, validation: Path | None, data: Path | None = None, splits: Splits = "refuse"
) -> tuple[Images, Images, tuple[str, ...]]:
    models, options = [toy.models, BUNDLED], DatasetOptions(splits=splits)
    folders = Folders(data or toy.data, validation, models, toy.root / "cache", toy.root / "out", data_options=options)
    base = find_base_model("toy", models)
    return class_rows(Preparation(toy.config(evaluation={}), base, folders, RecordingHooks(), torch.device("cpu")))


def held_out(toy: ToyFolders, names: dict[str, str]) -> Path:
    """The training set once more, its class folders under other names."""
    folder = toy.root / "held out"
    for own, other in names.items():
        shutil.copytree(toy.data / own, folder / other)
    return folder


def test_two_files_of_the_same_classes_are_taken(toy: ToyFolders) -> None:
    target, judged, names = prepared(toy, held_out(toy, {"0": "0", "1": "1"}))
    assert names == ("0", "1")
    assert len(target.labels) == len(judged.labels) == 12


def test_the_held_out_split_of_a_file_judges_what_the_other_trains(toy: ToyFolders) -> None:
    both = toy.root / "both"
    shutil.copytree(toy.data, both / "train")
    for name in ("0", "1"):
        (both / "val" / name).mkdir(parents=True)
        for number, picture in enumerate(sorted((both / "train" / name).iterdir())[:2]):
            picture.rename(both / "val" / name / f"{number}.png")
    target, judged, names = prepared(toy, None, both, "hold_out")
    assert (len(target.labels), judged.labels.tolist(), names) == (8, [0, 0, 1, 1], ("0", "1"))
    own, _, _ = prepared(toy, held_out(toy, {"0": "0", "1": "1"}), both, "train")
    assert np.array_equal(own.pixels, target.pixels)
    with pytest.raises(TaskError, match="splits"):
        prepared(toy, None, both)


@pytest.mark.parametrize(
    ("names", "said"),
    [({"0": "0"}, "1"), ({"0": "0", "1": "2"}, "1, 2"), ({"0": "0", "1": "1", "0/": "more"}, "more")],
    ids=["one missing", "another", "one more"],
)
def test_classes_that_differ_are_named(toy: ToyFolders, names: dict[str, str], said: str) -> None:
    with pytest.raises(TaskError) as caught:
        prepared(toy, held_out(toy, names))
    assert (caught.value.code, caught.value.param) == ("class_mismatch", "validation_file")
    assert str(caught.value).endswith(f"differ: {said}")
