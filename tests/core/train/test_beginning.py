"""A run that begins with the checkpoint of another one: its weights, its classes, and what it must fit."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from difftune_core.checkpoint.manifest import MODEL
from difftune_core.checkpoint.save import save_checkpoint
from difftune_core.checkpoint.state import new_state
from difftune_core.families.labelled import LabelledData
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.hooks import ResumeEvent, TaskError
from difftune_core.networks.dit import DiT
from difftune_core.train.run import Run, prepared
from difftune_core.train.step import train_step
from tests.core.conftest import RecordingHooks, toy_config, written
from tests.core.runs import BUNDLED, ToyFolders, toy_folders

TABLE = "y_embedder.embedding_table.weight"


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def tuned(toy: ToyFolders, model: DiT, data: LabelledData, base_digest: str | None = None, **given: object) -> Path:
    """A checkpoint of one step on three classes."""
    config = toy_config("supervised", **given)
    state = new_state(deepcopy(model), config.method.hyperparameters, seed=config.seed)
    train_step(state, config, data)
    base = find_base_model("toy", [toy.models]).card.digest
    identity = {"base_model": base_digest or base}
    folder = toy.root / f"tuned-{len(list(toy.root.glob('tuned-*')))}"
    event = save_checkpoint(state, folder, identity=identity, envelope={}, write_config=written)
    return folder / event.name


def called(folder: Path, *class_names: str) -> Path:
    lineage = [{"checkpoint": "ckpt_A", "job": "ftjob_A", "step": 1}]
    (folder / "origin.json").write_text(json.dumps({"lineage": lineage, "class_names": class_names}))
    return folder


def begun(toy: ToyFolders, start: Path, hooks: RecordingHooks | None = None, **given: object) -> Run:
    config = toy.config(evaluation={}, recipe="distillation", **given)
    folders = Folders(toy.data, None, [toy.models, BUNDLED], toy.root / "cache", toy.root / "out", start=start)
    return prepared(
        config, find_base_model("toy", folders.models), folders, hooks or RecordingHooks(), torch.device("cpu")
    )


def test_it_has_the_weights_and_the_rows_of_the_classes_that_it_knows(
    toy: ToyFolders, toy_model: DiT, training_data: LabelledData
) -> None:
    folder = called(tuned(toy, toy_model, training_data), "1", "2", "0")
    theirs = load_file(folder / MODEL)
    state = begun(toy, folder).loop.state
    ours = state.average.state_dict()
    assert state.step == 0
    assert torch.equal(ours[TABLE], theirs[TABLE][[2, 0, 3]]), "classes 0 and 1, and null"
    same = [name for name, tensor in theirs.items() if name != TABLE]
    assert all(torch.equal(ours[name], theirs[name]) for name in same)
    assert not torch.equal(theirs["final_layer.linear.weight"], toy_model.state_dict()["final_layer.linear.weight"])


def test_rows_of_other_classes_start_by_the_rule(toy: ToyFolders, toy_model: DiT, training_data: LabelledData) -> None:
    folder = called(tuned(toy, toy_model, training_data), "a", "1", "c")
    theirs = load_file(folder / MODEL)[TABLE]
    ours = begun(toy, folder, label_rows="mean").loop.state.average.state_dict()[TABLE]
    assert torch.equal(ours, torch.stack([theirs[:-1].mean(0), theirs[1], theirs[3]]))


def test_it_resumes_exactly_and_with_no_other_beginning(
    toy: ToyFolders, toy_model: DiT, training_data: LabelledData
) -> None:
    folder = tuned(toy, toy_model, training_data)
    loop = begun(toy, folder).loop
    loop.advance()
    loop.save()
    again = begun(toy, folder, hooks := RecordingHooks()).loop
    assert [(event.step, event.changed) for event in hooks.events if isinstance(event, ResumeEvent)] == [(1, [])]
    loop.advance()
    again.advance()
    pairs = zip(loop.state.model.parameters(), again.state.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    other = tuned(toy, toy_model, training_data, weight_decay=0.5)
    with pytest.raises(TaskError, match="belongs to another run: beginning differ"):
        begun(toy, other)


def test_what_cannot_be_begun_with_is_refused_by_name(
    toy: ToyFolders, toy_model: DiT, training_data: LabelledData
) -> None:
    of_another = tuned(toy, toy_model, training_data, base_digest="another")
    with pytest.raises(TaskError) as refused:
        begun(toy, of_another)
    assert (refused.value.code, refused.value.param) == ("model_mismatch", "model")
    (of_another / MODEL).write_bytes(b"torn")
    with pytest.raises(TaskError) as refused:
        begun(toy, of_another)
    assert refused.value.code == "invalid_checkpoint"
    with_prompts = tuned(toy, toy_model, training_data, adapter={"type": "vpt", "num_tokens": 3})
    with pytest.raises(TaskError) as refused:
        begun(toy, with_prompts)
    assert refused.value.code == "adapter_not_mergeable"
