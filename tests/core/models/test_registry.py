"""Base models on disk that cannot be used, each refused by name."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import difftune_core
from difftune_core.config.card import CARD_FILE
from difftune_core.families.dit.files import load_dit, read_dit_config, write_dit_config
from difftune_core.families.dit.label_rows import with_classes
from difftune_core.families.table import find_base_model
from difftune_core.files import folder_digest
from difftune_core.hooks import TaskError
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import DiT
from difftune_core.networks.state import CONFIG, WEIGHTS

BUNDLED = Path(difftune_core.__path__[0]) / "weights"


@pytest.fixture
def folder(toy_model: DiT, tmp_path: Path) -> Path:
    """The `dit/` of a base model `toy`."""
    shutil.copytree(BUNDLED / "tiny-dit" / "vae", tmp_path / "toy" / "vae")
    inner = tmp_path / "toy" / "dit"
    inner.mkdir()
    save_file(toy_model.state_dict(), inner / WEIGHTS)
    write_dit_config(inner, toy_model.config)
    return inner


def change_config(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**config, **fields}), encoding="utf-8")


def load(folder: Path, **lies: Any) -> DiT:
    """As a run does, with a card that fits the files, as far as they can be read, but for `lies`."""
    fields: dict[str, Any] = {"id": "toy", "family": "dit", "image_size": 32, "feature_extractor": "tiny-features"}
    with contextlib.suppress(TaskError):
        config = read_dit_config(folder)
        fields |= {"num_classes": config.num_classes, "image_size": 4 * config.input_size}
    card = json.dumps({**fields, **lies, "digest": folder_digest(folder.parent)})
    (folder.parent / CARD_FILE).write_text(card, encoding="utf-8")
    return find_base_model("toy", [folder.parents[1]]).load_dit()


def refused(folder: Path, match: str) -> TaskError:
    with pytest.raises(TaskError, match=match) as caught:
        load(folder)
    return caught.value


def test_a_whole_one_loads(folder: Path, toy_model: DiT) -> None:
    loaded = load(folder).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in toy_model.state_dict().items())


@pytest.mark.parametrize("lie", [{"num_classes": 999}, {"image_size": 64}, {"process": "flow"}])
def test_a_card_that_says_something_else_than_the_files_is_refused(folder: Path, lie: dict[str, Any]) -> None:
    (name, said), *_ = lie.items()
    with pytest.raises(TaskError, match=f"says {name} {said!r}, its files ") as caught:
        load(folder, **lie)
    assert caught.value.code == "model_mismatch"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", None),
        ("config.json", b'{"_class_name": "AutoencoderKL", "block_out_channels": 5}'),
        ("diffusion_pytorch_model.safetensors", None),
        ("diffusion_pytorch_model.safetensors", b"\x00" * 20),
    ],
)
def test_an_autoencoder_that_cannot_be_read_is_named(folder: Path, file: str, content: bytes | None) -> None:
    path = folder.parent / "vae" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(TaskError, match=r"^vae/") as caught:
        _ = load(folder), Autoencoder(folder.parent / "vae")
    assert caught.value.code == "unreadable_weights"


def test_missing_and_extra_names_are_listed(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    del state["blocks.1.attn.qkv.bias"], state["t_embedder.mlp.0.weight"]
    save_file({**state, "blocks.0.gamma": torch.ones(2)}, folder / WEIGHTS)
    names = r"missing \['blocks.1.attn.qkv.bias', 't_embedder.mlp.0.weight'\], unexpected \['blocks.0.gamma'\]"
    assert refused(folder, names).code == "model_mismatch"


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_named(folder: Path, value: float) -> None:
    state = load_file(folder / WEIGHTS)
    state["blocks.1.mlp.fc2.bias"][3] = value
    save_file(state, folder / WEIGHTS)
    error = refused(folder, r"NaN or infinity: \['blocks\.1\.mlp\.fc2\.bias'\]")
    assert (error.code, error.param) == ("not_finite", "blocks.1.mlp.fc2.bias")


@pytest.mark.parametrize("kept", [0, 7, 1000, -1])
def test_a_truncated_file_is_named(folder: Path, kept: int) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(folder, "dit/model.safetensors").code == "unreadable_weights"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prediction", "noise"),
        ("process", "cosine"),
        ("timestep_frequencies", "halved"),
        ("num_heads", 3),
        ("num_heads", 0),
        ("depth", "two"),
        ("layout", "mmdit"),
    ],
)
def test_a_config_of_another_kind_is_refused_by_its_field(folder: Path, field: str, value: object) -> None:
    change_config(folder, **{field: value})
    error = refused(folder, field if field != "num_heads" else "heads")
    assert (error.code, error.param) == ("model_mismatch", field)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_config_that_is_no_json_object_is_named(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text, encoding="utf-8")
    assert refused(folder, r"dit/config\.json").code == "unreadable_weights"


def test_a_config_that_does_not_fit_the_weights_lists_the_names(folder: Path) -> None:
    change_config(folder, num_classes=7)
    refused(folder, r"other shape \['y_embedder\.embedding_table\.weight'\]")


@pytest.mark.parametrize("kind", ["adaptformer", "vpt"])
def test_a_tuned_model_with_an_adapter_inside_is_no_base_model(folder: Path, kind: str) -> None:
    change_config(folder, adapter={"type": kind})
    error = refused(folder, f"'toy' has {kind} inside")
    assert (error.code, error.param) == ("adapter_not_mergeable", "model")


def test_files_that_do_not_fit_the_cards_digest_are_refused(folder: Path) -> None:
    load(folder)
    change_config(folder, depth=1)
    with pytest.raises(TaskError, match="digest in its card"):
        find_base_model("toy", [folder.parents[1]])


def test_more_classes_than_an_export_has_rows_are_refused(toy_model: DiT) -> None:
    assert with_classes(toy_model, 1000, "mean").null_label == 1000
    with pytest.raises(TaskError, match="at most 1000") as caught:
        with_classes(toy_model, 1001, "mean")
    assert (caught.value.code, caught.value.param) == ("too_many_classes", "training_file")


def test_a_checkpoint_folder_is_read_by_the_same_rules(folder: Path) -> None:
    change_config(folder, patch="2")
    with pytest.raises(TaskError, match=r"does not know: \['patch'\]"):
        load_dit(folder, read_dit_config(folder))


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in BUNDLED.glob("*/card.json")))
def test_the_card_of_whatever_is_bundled_says_what_it_is(folder: str) -> None:
    card = json.loads((BUNDLED / folder / CARD_FILE).read_text(encoding="utf-8"))
    assert card["id"] == folder
    assert card["licence"] == "Apache-2.0"
    assert card["description"]
    weights = [load_file(path) for path in (BUNDLED / folder).rglob("*.safetensors")]
    assert 0 < card["num_parameters"] <= sum(tensor.numel() for tensors in weights for tensor in tensors.values())


def test_what_came_later_is_written_only_where_it_is_stated(tmp_path: Path, toy_model: DiT) -> None:
    """Older versions read the files of a plain model."""
    later = {"process": "flow", "prediction": "v", "sigma_data": 0.25}
    write_dit_config(tmp_path, toy_model.config)
    assert not later.keys() & json.loads((tmp_path / CONFIG).read_text()).keys()
    for name, value in later.items():
        write_dit_config(tmp_path, replace(toy_model.config, **{name: value}))
        written = json.loads((tmp_path / CONFIG).read_text())
        assert {key: written[key] for key in later.keys() & written.keys()} == {name: value}
