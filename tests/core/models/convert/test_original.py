from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from difftune_core.families.dit.convert.original import preset_name, read_original
from difftune_core.families.dit.files import load_dit, write_dit_config
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import PRESETS, DiT, DiTConfig
from difftune_core.networks.state import WEIGHTS
from tests.core.models.convert.conftest import CONFIG, random_state

State = dict[str, torch.Tensor]


def saved(folder: Path, content: Any) -> Path:
    path = folder / "weights.pt"
    torch.save(content, path)
    return path


def refused(path: Path, match: str, **options: Any) -> TaskError:
    with pytest.raises(TaskError, match=match) as caught:
        read_original(path, **{"num_heads": 2, **options})
    return caught.value


def test_original_names_come_out_as_the_same_bytes(tmp_path: Path, state: State) -> None:
    converted = read_original(saved(tmp_path, state), num_heads=2)
    assert converted.config == CONFIG
    save_file(converted.state, tmp_path / WEIGHTS)
    assert (tmp_path / WEIGHTS).read_bytes() == save(state)
    write_dit_config(tmp_path, converted.config)
    model = load_dit(tmp_path, converted.config)
    assert save(model.state_dict()) == save(state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_weights_saved_from_within_a_wrapper_are_read(tmp_path: Path, state: State, prefix: str, ending: str) -> None:
    wrapped, path = {prefix + name: tensor for name, tensor in state.items()}, tmp_path / f"weights.{ending}"
    save_file(wrapped, path) if ending == "safetensors" else torch.save(wrapped, path)
    assert save(read_original(path, num_heads=2).state) == save(state)


def test_all_missing_names_are_listed_beside_those_that_are_there(tmp_path: Path, state: State) -> None:
    odd = {f"net.{name}": tensor for name, tensor in state.items()}
    error = refused(saved(tmp_path, odd), r"missing \['x_embedder.*'final_layer.*'blocks.0.*'y_embedder.*net\.blocks")
    assert error.code == "model_mismatch"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_precision_is_kept(tmp_path: Path, state: State, dtype: torch.dtype) -> None:
    low = {name: tensor.to(dtype) for name, tensor in state.items()}
    assert save(read_original(saved(tmp_path, low), num_heads=2).state) == save(low)


@pytest.mark.parametrize(("key", "note"), [("model", "'model'"), ("ema", "'ema'")])
def test_a_training_checkpoint_is_read_under_its_key(tmp_path: Path, state: State, key: str, note: str) -> None:
    checkpoint = {key: state, "opt": {"state": {}}, "args": argparse.Namespace(lr=1e-4, model="DiT-XL/2")}
    converted = read_original(saved(tmp_path, checkpoint), num_heads=2)
    assert save(converted.state) == save(state)
    assert note in converted.notes[0]


def test_the_average_is_preferred(tmp_path: Path, state: State) -> None:
    raw = {name: tensor + 1 for name, tensor in state.items()}
    converted = read_original(saved(tmp_path, {"model": raw, "ema": state}), num_heads=2)
    assert save(converted.state) == save(state)


def test_a_missing_position_embedding_is_derived(tmp_path: Path, state: State) -> None:
    expected = state.pop("pos_embed")
    converted = read_original(saved(tmp_path, state), num_heads=2, input_size=8)
    assert torch.equal(converted.state["pos_embed"], expected)
    assert refused(saved(tmp_path, state), "latent size must be stated").param == "input_size"


def test_a_position_embedding_of_another_kind_is_refused(tmp_path: Path, state: State) -> None:
    state["pos_embed"] = state["pos_embed"].flip(1)
    assert refused(saved(tmp_path, state), "sine-cosine").param == "pos_embed"


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, learn_sigma=False),
        replace(CONFIG, patch_size=4, in_channels=3, mlp_ratio=2.0, num_heads=4, depth=1, num_classes=1),
    ],
)
def test_anatomy_is_read_from_shapes(tmp_path: Path, config: DiTConfig) -> None:
    path = saved(tmp_path, random_state(config))
    assert read_original(path, num_heads=config.num_heads).config == config


def test_heads_of_a_published_size_are_known(tmp_path: Path) -> None:
    config = replace(PRESETS["DiT-S/8"], input_size=8, num_classes=2)
    with torch.device("meta"):
        shapes = DiT(config).state_dict()
    state = {name: torch.zeros(tensor.shape, dtype=torch.float16) for name, tensor in shapes.items()}
    del state["pos_embed"]
    path = saved(tmp_path, state)
    assert read_original(path, input_size=8).config == config
    assert refused(path, "published DiT of that size has 6 heads", num_heads=4, input_size=8).param == "num_heads"


def test_preset_name_ignores_image_size_and_labels() -> None:
    assert preset_name(replace(PRESETS["DiT-XL/2"], input_size=64, num_classes=10)) == "DiT-XL/2"
    assert preset_name(CONFIG) is None


def test_unknown_sizes_need_their_heads(tmp_path: Path, state: State) -> None:
    assert refused(saved(tmp_path, state), "state its number of heads", num_heads=None).param == "num_heads"
    assert refused(saved(tmp_path, state), "anatomy", num_heads=3).code == "model_mismatch"


def test_missing_and_extra_names_are_listed(tmp_path: Path, state: State) -> None:
    del state["blocks.1.attn.qkv.bias"], state["t_embedder.mlp.0.weight"]
    state["blocks.0.gamma"] = torch.ones(2)
    missing = r"missing \['blocks.1.attn.qkv.bias', 't_embedder.mlp.0.weight'\], unexpected \['blocks.0.gamma'\]"
    assert refused(saved(tmp_path, state), missing).code == "model_mismatch"


@pytest.mark.parametrize("name", ["x_embedder.proj.weight", "final_layer.linear.weight", "blocks.0.mlp.fc1.weight"])
def test_a_missing_name_that_tells_the_anatomy_is_named(tmp_path: Path, state: State, name: str) -> None:
    del state[name]
    assert refused(saved(tmp_path, state), "missing").param == name


def test_a_tuned_checkpoint_of_ours_is_read(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / WEIGHTS)
    assert save(read_original(tmp_path / WEIGHTS, num_heads=2).state) == save(state)
    save_file({**state, "blocks.0.attn.gate": torch.zeros(2)}, tmp_path / WEIGHTS)
    assert refused(tmp_path / WEIGHTS, r"unexpected \[.blocks\.0\.attn\.gate").code == "model_mismatch"
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-1])
    assert refused(tmp_path / WEIGHTS, WEIGHTS).code == "unreadable_weights"


def test_a_wrong_shape_is_named(tmp_path: Path, state: State) -> None:
    state["blocks.1.mlp.fc2.bias"] = torch.zeros(31)
    refused(saved(tmp_path, state), r"other shape \['blocks.1.mlp.fc2.bias'\]")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, state: State, value: float) -> None:
    state["blocks.1.mlp.fc2.bias"][3] = value
    assert refused(saved(tmp_path, state), r"blocks\.1\.mlp\.fc2\.bias").code == "not_finite"


def test_weights_beyond_float32_are_refused_for_every_model_is_loaded_as_that(tmp_path: Path, state: State) -> None:
    state["blocks.1.mlp.fc2.bias"] = torch.full((32,), 1e39, dtype=torch.float64)
    assert refused(saved(tmp_path, state), r"blocks\.1\.mlp\.fc2\.bias").code == "not_finite"


def test_weights_without_plain_values_are_named(tmp_path: Path, state: State) -> None:
    for form in (state["x_embedder.proj.bias"].to_sparse(), torch.empty(32, device="meta")):
        error = refused(saved(tmp_path, state | {"x_embedder.proj.bias": form}), "not floating-point")
        assert error.param == "x_embedder.proj.bias"


def test_what_is_no_weight_is_named(tmp_path: Path, state: State) -> None:
    assert "['step']" in str(refused(saved(tmp_path, {**state, "step": 7}), "no tensor"))
    state["x_embedder.proj.bias"] = state["x_embedder.proj.bias"].long()
    assert refused(saved(tmp_path, state), "not floating-point").param == "x_embedder.proj.bias"


class Payload:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path: Path, state: State) -> None:
    mark = tmp_path / "it-ran"
    error = refused(saved(tmp_path, {"model": state, "args": Payload(f"touch {mark}")}), "posix.system")
    assert error.code == "unsafe_weights"
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 a broken zip"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    assert refused(path, "weights.pt").code == "unreadable_weights"


def test_a_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    assert refused(saved(tmp_path, [1, 2]), "no weights").code == "unreadable_weights"
