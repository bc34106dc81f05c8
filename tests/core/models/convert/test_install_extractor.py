from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from difftune_core.config.card import list_cards, read_extractor_card
from difftune_core.evaluate.features import load_extractor
from difftune_core.evaluate.inception import InceptionV3
from difftune_core.families.convert import extractors
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.install import install
from difftune_core.families.install_extractor import INCEPTION_LICENCE
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError
from tests.core.conftest import RecordingHooks

State = dict[str, torch.Tensor]
HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def state() -> State:
    """As published: the classifier too, and counters where a newer version of torch wrote the file."""
    torch.manual_seed(0)
    state = {name: torch.rand_like(tensor) * 0.1 + 0.01 for name, tensor in InceptionV3().state_dict().items()}
    norms = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    counters = {f"{name}num_batches_tracked": torch.tensor(0) for name in norms}
    return {**state, **counters, "fc.weight": torch.rand(1008, 2048), "fc.bias": torch.rand(1008)}


def request(tmp_path: Path, source: Path | str, **options: Any) -> ImportRequest:
    given = {"id": "inception", "kind": "inception", "models": tmp_path / "models", **options}
    return ImportRequest(source=str(source), **given)


def refused(asked: ImportRequest, match: str) -> TaskError:
    with pytest.raises(TaskError, match=match) as caught:
        install(asked, RecordingHooks())
    assert not asked.models.is_dir() or not list(asked.models.iterdir())
    return caught.value


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_inception_is_kept_without_its_classifier(tmp_path: Path, state: State, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    hooks = RecordingHooks()
    outcome = install(request(tmp_path, path, licence="Apache-2.0", resizing="torch-fidelity"), hooks)
    assert outcome.code == "succeeded", outcome.message
    folder = tmp_path / "models" / "inception"
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "model.safetensors"]
    kept = load_file(folder / "model.safetensors")
    assert kept.keys() == InceptionV3().state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in kept.items())
    card = read_extractor_card(folder)
    assert (card.kind, card.id, card.licence, card.num_parameters) == (
        "inception",
        "inception",
        "Apache-2.0",
        21_785_568,
    )
    assert card.source == f"{path.name}, sha256 {sha256_file(path)}"
    assert card.digest == sha256_file(folder / "model.safetensors")
    assert not card.comparable  # no published file
    assert any("not called comparable" in event.message for event in hooks.events if event.type == "log")
    extractor = load_extractor(folder)
    assert "torch-fidelity" in extractor.resizing
    assert extractor(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 2048)
    assert list_cards([tmp_path / "models"]) == {}
    assert list_cards([tmp_path / "models"], "extractor") == {"inception": folder}


def test_the_published_file_is_known_by_its_digest(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "weights.pth")
    refused(request(tmp_path, tmp_path / "weights.pth"), "state the licence")
    monkeypatch.setattr(extractors, "PUBLISHED_INCEPTION", sha256_file(tmp_path / "weights.pth")[:8])
    hooks = RecordingHooks()
    install(request(tmp_path, tmp_path / "weights.pth"), hooks)
    card = read_extractor_card(tmp_path / "models" / "inception")
    assert (card.comparable, card.licence, card.resizing) == (True, INCEPTION_LICENCE, "clean-fid")
    assert not [event for event in hooks.events if event.type == "log"]
    with pytest.raises(TaskError, match="remove it first"):
        install(request(tmp_path, tmp_path / "weights.pth"), hooks)


def test_other_weights_are_refused_by_name(tmp_path: Path, state: State) -> None:
    path, name = tmp_path / "weights.pth", "Mixed_6c.branch7x7dbl_4.conv.weight"
    wrong: list[tuple[State, str]] = [
        ({k: v for k, v in state.items() if k != name}, rf"missing \['{name}'\]"),
        ({**state, "AuxLogits.fc.weight": torch.zeros(1)}, r"unexpected \['AuxLogits.fc.weight'\]"),
        ({**state, "fc.weight": torch.zeros(1000, 2048)}, "another Inception than FID's"),
        ({**state, name: torch.zeros(160, 160, 1, 7)}, rf"other shape \['{name}'\]"),
        ({**state, name: torch.full_like(state[name], torch.nan)}, rf"NaN or infinity: \['{name}'\]"),
    ]
    for content, match in wrong:
        torch.save(content, path)
        refused(request(tmp_path, path, licence="x"), match)
    torch.save({"weights": print}, path)
    assert refused(request(tmp_path, path, licence="x"), "refused, for that could be code").code == "unsafe_weights"
    refused(request(tmp_path, tmp_path, licence="x"), "is a folder; Inception is one file")


def test_dinov2_is_kept_with_what_shapes_it(tmp_path: Path, dinov2_folder: Path) -> None:
    source = tmp_path / "dinov2-small"
    shutil.copytree(dinov2_folder, source)
    (source / "pytorch_model.bin").write_bytes(b"never opened")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(
        json.dumps({**config, "architectures": ["Dinov2Model"], "auto_map": {"a": "b"}})
    )
    outcome = install(request(tmp_path, source, id="dinov2", kind="dinov2", licence="Apache-2.0"), RecordingHooks())
    assert outcome.code == "succeeded", outcome.message
    folder = tmp_path / "models" / "dinov2"
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "config.json", "model.safetensors"]
    assert "auto_map" not in json.loads((folder / "config.json").read_text())
    card = read_extractor_card(folder)
    assert (card.kind, card.comparable) == ("dinov2", False)
    assert card.source.startswith("transformers folder dinov2-small, sha256 ")
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 30, 3), dtype=np.uint8)
    assert load_extractor(folder)(images) == pytest.approx(load_extractor(dinov2_folder)(images), abs=1e-6)


def test_another_network_than_dinov2_is_refused(tmp_path: Path, dinov2_folder: Path) -> None:
    source = tmp_path / "other"
    shutil.copytree(dinov2_folder, source)
    config = json.loads((source / "config.json").read_text())
    asked = request(tmp_path, source, id="dinov2", kind="dinov2", licence="x")
    for field, value in (("model_type", "vit"), ("hidden_size", "32"), ("num_channels", 1), ("patch_size", 15)):
        (source / "config.json").write_text(json.dumps({**config, field: value}))
        assert refused(asked, field).param == field
    (source / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    refused(asked, r"missing \['encoder.layer.2")
    (source / "config.json").write_text(json.dumps(config))
    (source / "model.safetensors").write_bytes(b"cut")
    assert refused(asked, "model.safetensors").code == "unreadable_weights"
    refused(request(tmp_path, source / "config.json", id="dinov2", kind="dinov2", licence="x"), "is no folder")


@pytest.mark.parametrize(
    ("kind", "option"),
    [("inception", {"vae": "v"}), ("inception", {"num_heads": 2}), ("dinov2", {"resizing": "clean-fid"})],
)
def test_options_of_something_else_are_refused(tmp_path: Path, kind: str, option: dict[str, object]) -> None:
    asked = request(tmp_path, tmp_path / "x.pth", kind=kind, **option)
    assert refused(asked, f"of kind {kind} has no option").param == next(iter(option))
    assert refused(request(tmp_path, tmp_path, kind="dit", resizing="clean-fid"), "no option").param == "resizing"
