from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from safetensors.torch import save, save_file

from difftune_core.families.dit.convert.diffusers_dit import _Config, read_diffusers
from difftune_core.families.dit.export import to_diffusers, to_diffusers_state
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from tests.core.models.convert.conftest import CONFIG, TRANSFORMER, WEIGHTS, random_state, write_component

State = dict[str, torch.Tensor]
SECOND = "transformer_blocks.1.norm1.emb"


def refused(folder: Path, match: str, **options: Any) -> TaskError:
    with pytest.raises(TaskError, match=match) as caught:
        read_diffusers(folder, **options)
    return caught.value


def test_where_a_config_is_silent_diffusers_defaults_hold() -> None:
    theirs = inspect.signature(DiTTransformer2DModel.__init__).parameters
    ours = {name: field.default for name, field in _Config.model_fields.items() if name != "class_name"}
    assert ours == {name: theirs[name].default for name in ours}


def test_ours_to_diffusers_and_back_is_the_same(tmp_path: Path) -> None:
    config = replace(CONFIG, num_classes=1000, timestep_frequencies="diffusers")
    state = random_state(config)
    model = DiT(config)
    model.load_state_dict(state)
    to_diffusers(model).save_pretrained(tmp_path / "transformer")
    converted = read_diffusers(tmp_path)
    assert converted.config == config
    assert save(converted.state) == save(state)
    assert converted.notes == ()


def test_diffusers_to_ours_and_back_is_the_same(tmp_path: Path, theirs: State) -> None:
    converted = read_diffusers(write_component(tmp_path / "transformer", TRANSFORMER, theirs))
    assert save(to_diffusers_state(converted.state, CONFIG.depth)) == save(theirs)


def test_ours_computes_what_the_folder_computes_there(tmp_path: Path, theirs: State) -> None:
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    loader: Any = DiTTransformer2DModel
    folder = write_component(tmp_path / "transformer", TRANSFORMER, theirs)
    model = loader.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()
    state, config, _ = read_diffusers(folder)
    ours = DiT(config)
    ours.load_state_dict(state)
    x, t, y = torch.randn(4, 4, 8, 8), torch.tensor([0, 10, 500, 999]), torch.tensor([0, 7, 999, 1000])
    with torch.no_grad():
        expected = model(x, timestep=t, class_labels=y).sample
        found = ours(x, t.float(), y)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert expected.abs().max() > 0.1


def test_the_pipelines_null_row_stays_last(tmp_path: Path, theirs: State) -> None:
    converted = read_diffusers(write_component(tmp_path / "transformer", TRANSFORMER, theirs))
    table = theirs[f"{SECOND}.class_embedder.embedding_table.weight"]
    assert converted.config.num_classes == 1000
    assert torch.equal(converted.state["y_embedder.embedding_table.weight"][1000], table[1000])
    assert converted.config.timestep_frequencies == "diffusers"


def test_a_padded_table_loses_its_padding_where_asked(tmp_path: Path, state: State) -> None:
    folder = write_component(tmp_path / "transformer", TRANSFORMER, to_diffusers_state(state, CONFIG.depth))
    converted = read_diffusers(folder, num_classes=5, timestep_frequencies="original")
    assert converted.config == CONFIG
    assert save(converted.state) == save(state)
    for wrong in (4, 1001):
        assert refused(folder, "not .* classes and copies of the null row", num_classes=wrong).param == "num_classes"


@pytest.mark.parametrize("part", ["class_embedder.embedding_table.weight", "timestep_embedder.linear_2.bias"])
def test_blocks_with_embedders_of_their_own_are_named(tmp_path: Path, theirs: State, part: str) -> None:
    theirs[f"{SECOND}.{part}"] = theirs[f"{SECOND}.{part}"] + 1
    error = refused(write_component(tmp_path / "transformer", TRANSFORMER, theirs), "differ from those of block 0")
    assert error.param == f"{SECOND}.{part}"
    assert f"['{SECOND}.{part}']" in str(error)


def test_missing_and_extra_names_are_listed(tmp_path: Path, theirs: State) -> None:
    del theirs["transformer_blocks.0.attn1.to_k.bias"]
    theirs["transformer_blocks.2.ff.net.2.bias"] = torch.zeros(1)
    folder = write_component(tmp_path / "transformer", TRANSFORMER, theirs)
    refused(folder, r"missing \['transformer_blocks.0.attn1.to_k.bias'\], unexpected \['transformer_blocks.2.ff.net.2")


def test_weights_that_are_not_finite_are_named(tmp_path: Path, theirs: State) -> None:
    theirs["proj_out_2.bias"][0] = torch.nan
    error = refused(write_component(tmp_path / "transformer", TRANSFORMER, theirs), "proj_out_2.bias")
    assert error.code == "not_finite"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_class_name", "UNet2DConditionModel"),
        ("activation_fn", "geglu"),
        ("norm_type", "ada_norm_single"),
        ("num_layers", 10**9),
        ("out_channels", 5),
        ("num_embeds_ada_norm", 100),
    ],
)
def test_a_config_that_is_no_dit_is_named(tmp_path: Path, theirs: State, field: str, value: object) -> None:
    error = refused(write_component(tmp_path / "transformer", {**TRANSFORMER, field: value}, theirs), field)
    assert error.param == field
    assert error.code == "model_mismatch"


def test_a_config_that_does_not_fit_its_weights_is_refused(tmp_path: Path, theirs: State) -> None:
    folder = write_component(tmp_path / "a", {**TRANSFORMER, "attention_head_dim": 8}, theirs)
    refused(folder, r"label table of shape \(1001, 32\) for a width of 16")
    refused(write_component(tmp_path / "b", {**TRANSFORMER, "num_layers": 3}, theirs), "missing .*transformer_blocks.2")


def test_the_published_folders_epsilon_is_told(tmp_path: Path, theirs: State) -> None:
    folder = write_component(tmp_path / "transformer", {**TRANSFORMER, "norm_eps": 1e-5}, theirs)
    assert "norm_eps 1e-05" in read_diffusers(folder).notes[0]


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "extra.PT", "model.ckpt"])
def test_pickles_in_the_folder_are_refused(tmp_path: Path, theirs: State, name: str) -> None:
    folder = write_component(tmp_path / "transformer", TRANSFORMER, theirs)
    (folder / name).write_bytes(b"")
    error = refused(tmp_path, "can carry code")
    assert (error.code, error.param) == ("unsafe_weights", name)


def sharded(folder: Path, state: State, rename: Callable[[str], str] = str) -> Path:
    """Two shards and an index whose file names went through `rename`."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TRANSFORMER))
    where = {}
    for i, names in enumerate((sorted(state)[::2], sorted(state)[1::2])):
        shard = f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors"
        save_file({name: state[name] for name in names}, folder / shard)
        where |= dict.fromkeys(names, rename(shard))
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def test_shards_are_joined(tmp_path: Path, theirs: State) -> None:
    converted = read_diffusers(sharded(tmp_path / "transformer", theirs))
    assert save(to_diffusers_state(converted.state, CONFIG.depth)) == save(theirs)


@pytest.mark.parametrize("prefix", ["../transformer/", "/etc/", "sub/", "..\\", "."])
def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path, theirs: State, prefix: str) -> None:
    error = refused(sharded(tmp_path / "transformer", theirs, lambda name: prefix + name), "no plain")
    assert error.code == "unsafe_weights"


def test_an_index_that_names_a_pickle_is_refused(tmp_path: Path, theirs: State) -> None:
    sharded(tmp_path / "transformer", theirs, lambda name: name.replace("safetensors", "bin"))
    assert refused(tmp_path, "no plain").code == "unsafe_weights"


def test_an_index_that_is_wrong_about_its_files_is_refused(tmp_path: Path, theirs: State) -> None:
    sharded(tmp_path / "transformer", theirs, lambda _: "diffusion_pytorch_model-00001-of-00002.safetensors")
    refused(tmp_path, "does not fit its files in")


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_broken_or_missing_file_is_named(tmp_path: Path, theirs: State, name: str) -> None:
    folder = write_component(tmp_path / "transformer", TRANSFORMER, theirs)
    (folder / name).write_bytes(b"{")
    assert refused(tmp_path, name).code == "unreadable_weights"
    (folder / name).unlink()
    assert refused(tmp_path, name).code == "unreadable_weights"
