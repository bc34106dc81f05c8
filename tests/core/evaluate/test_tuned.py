from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from difftune_core.checkpoint.manifest import MODEL
from difftune_core.checkpoint.save import save_checkpoint
from difftune_core.checkpoint.state import new_state
from difftune_core.config.card import BaseModelCard
from difftune_core.families.base_model import BaseModel
from difftune_core.families.dit import analysis_command
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.dit.tuned import open_checkpoints
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from tests.core.conftest import NUM_CLASSES, RecordingHooks, toy_config, written

IDENTITY = {"base_model": "b" * 64, "training_data": "d" * 64}


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    card = BaseModelCard(id="toy", family="dit", image_size=32, feature_extractor="none", digest="b" * 64)
    return DiTModel(tmp_path, card)


@pytest.fixture
def folder(tmp_path: Path, toy_model: DiT) -> Path:
    """A checkpoint as training leaves it."""
    state = new_state(toy_model, toy_config("supervised").method.hyperparameters, seed=0)
    state.step = 7
    return tmp_path / save_checkpoint(state, tmp_path, identity=IDENTITY, envelope={}, write_config=written).name


def opened(base: BaseModel, folder: Path, *, data: str = "d" * 64, classes: int = NUM_CLASSES) -> DiT:
    (found,) = open_checkpoints({"tuned": folder}, base, training_data=(data, "as 0.3.0 named it"), num_classes=classes)
    assert (found.name, found.step) == ("tuned", 7)
    return found.load(torch.device("cpu"))


def test_the_average_is_loaded_also_where_what_a_resume_needs_is_gone(
    base: BaseModel, folder: Path, toy_model: DiT
) -> None:
    (folder / "resume.safetensors").unlink()
    model = opened(base, folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), toy_model.parameters(), strict=True))


def test_other_data_another_base_model_or_other_classes_are_named(base: BaseModel, folder: Path) -> None:
    with pytest.raises(TaskError, match=f"training data: {'d' * 64}, not {'e' * 64}") as refused:
        opened(base, folder, data="e" * 64)
    assert refused.value.code == "checkpoint_mismatch"
    other = DiTModel(base.folder, base.card.model_copy(update={"digest": "c" * 64}))
    with pytest.raises(TaskError, match=f"base model: {'b' * 64}, not {'c' * 64}"):
        opened(other, folder)
    with pytest.raises(TaskError, match="tuned has 3 classes, the data set 5"):
        opened(base, folder, classes=5)


def test_a_damaged_or_missing_checkpoint_is_refused(base: BaseModel, folder: Path, tmp_path: Path) -> None:
    with (folder / MODEL).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(TaskError, match=r"tuned: model\.safetensors is not the one in its manifest"):
        opened(base, folder)
    with pytest.raises(TaskError, match=r"holds no manifest\.json") as refused:
        opened(base, tmp_path)
    assert refused.value.code == "invalid_checkpoint"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["{here}"], "not NAME=DIR"),
        (["a={here}/nowhere"], "not NAME=DIR"),
        (["a={here}", "a={here}"], "the name is taken"),
        ([f"{name}={{here}}" for name in "abcde"], "5 checkpoints; at most 4"),
    ],
)
def test_the_commands_checkpoints_are_read_with_care(given: list[str], words: str, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"model": "tiny-dit"}')
    parser = argparse.ArgumentParser()
    analysis_command.add_arguments(parser)
    options = [part for text in given for part in ("--checkpoint", text.format(here=tmp_path))]
    args = parser.parse_args([str(config), *options, "--data", "d", "--out", str(tmp_path / "out")])
    with pytest.raises(TaskError, match=words) as refused:
        analysis_command.run(args, tmp_path, RecordingHooks())
    assert refused.value.code == "invalid_checkpoint"
