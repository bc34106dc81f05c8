from __future__ import annotations

import hashlib
import json
import threading
from copy import deepcopy
from io import BufferedReader
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from difftune_core.adapters.select import adapt
from difftune_core.checkpoint.manifest import ADAPTER, MANIFEST, MODEL, RESUME, whole
from difftune_core.checkpoint.save import save_checkpoint
from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.families.dit.export import to_diffusers
from difftune_core.families.dit.files import load_dit, read_dit_config
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from difftune_core.networks.state import CONFIG
from difftune_core.train.step import train_step
from tests.core.conftest import toy_config, written

KINDS: dict[str, dict[str, object]] = {
    "lora": {"type": "lora", "rank": 2},
    "dora": {"type": "lora", "rank": 2, "use_dora": True},
    "difffit": {"type": "difffit", "last_block": 1},
    "bitfit": {"type": "bitfit"},
    "parallel": {"type": "adaptformer", "bottleneck": 4},
    "sequential": {"type": "adaptformer", "bottleneck": 4, "mode": "sequential"},
    "vpt": {"type": "vpt", "num_tokens": 3},
    "vpt as published": {"type": "vpt", "num_tokens": 3, "zero_gate": False},
}


def trained(adapter: dict[str, object], model: DiT, data: LabelledData, folder: Path) -> tuple[TrainState, Path]:
    """A run of 3 steps and its checkpoint."""
    config = toy_config(adapter=adapter, learning_rate=0.02)
    state = new_state(deepcopy(model), config.method.hyperparameters, seed=config.seed)
    for _ in range(3):
        train_step(state, config, data)
    event = save_checkpoint(state, folder, identity={"base_model": "toy"}, envelope={}, write_config=written)
    return state, folder / event.name


def predict(model: DiT) -> torch.Tensor:
    x = torch.linspace(-2, 2, 4 * 4 * 8 * 8).reshape(4, 4, 8, 8)
    with torch.no_grad():
        out: torch.Tensor = model.eval()(x, torch.tensor([0.0, 10, 500, 999]), torch.arange(4))
    return out


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_delivered_model_loads_and_is_the_average(
    kind: str, toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    state, folder = trained(KINDS[kind], toy_model, training_data, tmp_path)
    loaded = load_dit(folder, read_dit_config(folder))
    assert torch.allclose(predict(loaded), predict(state.average), atol=1e-5)
    assert not torch.allclose(predict(loaded), predict(toy_model), atol=1e-3)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_files_hold_what_is_trained_and_no_more(
    kind: str, toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    state, folder = trained(KINDS[kind], toy_model, training_data, tmp_path)
    manifest = whole(folder)
    assert manifest is not None
    assert {file.path for file in manifest.files} == {MODEL, RESUME, CONFIG, ADAPTER}
    names = set(state.trainable())
    assert set(load_file(folder / ADAPTER)) == names
    kinds = ("raw", "average", "exp_avg", "exp_avg_sq")
    assert set(load_file(folder / RESUME)) == {f"{kind}/{name}" for kind in kinds for name in names}
    assert len(state.optimizer.state) == len(names)
    shared = dict(state.model.named_parameters())
    assert all((p is shared[name]) == (name not in names) for name, p in state.average.named_parameters())


def test_its_files_are_read_once_to_be_hashed_and_not_by_the_training_thread(
    toy_model: DiT, training_data: LabelledData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, bool]] = []
    hashed = hashlib.file_digest

    def noted(file: BufferedReader, algorithm: str) -> object:
        read.append((Path(file.name).name, threading.current_thread() is threading.main_thread()))
        return hashed(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    trained(KINDS["lora"], toy_model, training_data, tmp_path)
    of_training = [(MANIFEST, True)]  # a few kilobytes
    assert sorted(read) == sorted([(name, False) for name in (MODEL, RESUME, CONFIG, ADAPTER)] + of_training)


@pytest.mark.parametrize("kind", ["lora", "dora", "difffit", "bitfit"])
def test_a_merged_model_is_a_plain_one(kind: str, toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    _, folder = trained(KINDS[kind], toy_model, training_data, tmp_path)
    assert set(load_file(folder / MODEL)) == set(toy_model.state_dict())
    assert read_dit_config(folder) == toy_model.config
    assert "adapter" not in json.loads((folder / CONFIG).read_text())
    to_diffusers(load_dit(folder, toy_model.config))


def test_the_adapter_file_makes_the_model_again_from_its_base(
    toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    state, folder = trained(KINDS["lora"], toy_model, training_data, tmp_path)
    model = adapt(deepcopy(toy_model), state.adapter)
    found = model.load_state_dict(load_file(folder / ADAPTER), strict=False)
    assert not found.unexpected_keys
    assert torch.equal(predict(model), predict(state.average))


def test_weights_of_another_adapter_are_refused_by_name(
    toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    _, folder = trained(KINDS["vpt"], toy_model, training_data, tmp_path)
    fields = json.loads((folder / CONFIG).read_text())
    assert fields["adapter"] == {"type": "vpt", "num_tokens": 3, "zero_gate": True}
    (folder / CONFIG).write_text(json.dumps({**fields, "adapter": KINDS["parallel"]}))
    with pytest.raises(
        TaskError, match=r"missing \['blocks\.0\.mlp\.down\.bias'.*unexpected \['blocks\.0\.attn\.gate'"
    ):
        load_dit(folder, read_dit_config(folder))


def test_full_tuning_leaves_three_files(toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    state, folder = trained({"type": "full"}, toy_model, training_data, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, "manifest.json", MODEL, RESUME]
    assert not any(name.startswith("average/") for name in load_file(folder / RESUME))
    assert set(load_file(folder / MODEL)) == set(state.average.state_dict())
