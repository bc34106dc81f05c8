from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from difftune_core.evaluate.dinov2 import positions_at
from difftune_core.evaluate.extractor import FeatureExtractor
from difftune_core.evaluate.features import load_extractor
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError

State = dict[str, torch.Tensor]
HEADS = 4


def by_hand(state: State, images: np.ndarray) -> np.ndarray:
    """A pre-norm vision transformer with layer scale, from the file's own names; its normalised class token."""
    resized = np.stack([np.asarray(Image.fromarray(i).resize((224, 224), Image.Resampling.BICUBIC)) for i in images])
    x = torch.from_numpy(resized).permute(0, 3, 1, 2).double() / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    w = {name: tensor.double() for name, tensor in state.items()}
    projection = "embeddings.patch_embeddings.projection"
    patches = F.conv2d(x, w[f"{projection}.weight"], w[f"{projection}.bias"], stride=14).flatten(2).transpose(1, 2)
    tokens = torch.cat([w["embeddings.cls_token"].expand(len(x), -1, -1), patches], 1)
    square = state["embeddings.position_embeddings"][:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    moved = F.interpolate(square, scale_factor=16.1 / 37, mode="bicubic").flatten(2).transpose(1, 2)
    x = tokens + torch.cat([w["embeddings.position_embeddings"][:, :1], moved.double()], 1)

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return (x - mean) / (var + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for i in range(2):
        layer = f"encoder.layer.{i}"
        h = norm(f"{layer}.norm1", x)
        query, key, value = (
            linear(f"{layer}.attention.attention.{part}", h).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        h = linear(f"{layer}.attention.output.dense", (weights @ value).transpose(1, 2).flatten(2))
        x = x + h * w[f"{layer}.layer_scale1.lambda1"]
        h = linear(f"{layer}.mlp.fc2", F.gelu(linear(f"{layer}.mlp.fc1", norm(f"{layer}.norm2", x))))
        x = x + h * w[f"{layer}.layer_scale2.lambda1"]
    return norm("layernorm", x)[:, 0].numpy()


def test_features_are_the_networks_class_token(dinov2_folder: Path) -> None:
    extractor = load_extractor(dinov2_folder)
    assert isinstance(extractor, FeatureExtractor)
    assert (extractor.id, extractor.kind, extractor.dim, extractor.input_size) == ("dinov2", "dinov2", 32, 224)
    assert extractor.digest == sha256_file(dinov2_folder / "model.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (3, 60, 40, 3), dtype=np.uint8)
    wanted = by_hand(load_file(dinov2_folder / "model.safetensors"), images)
    assert wanted.std() > 0.1
    assert extractor(images) == pytest.approx(wanted, abs=1e-4)
    assert extractor(images[:0]).shape == (0, 32)


def test_positions_of_the_right_size_stay_as_they_are() -> None:
    positions = torch.randn(1, 257, 8)
    assert torch.equal(positions_at(positions, 16), positions)
    moved = positions_at(torch.randn(1, 1370, 8), 16)
    assert moved.shape == (1, 257, 8)
    assert torch.equal(positions_at(torch.ones(1, 1370, 8), 16).round(decimals=4), torch.ones(1, 257, 8))


def test_weights_that_do_not_fit_are_refused_by_name(dinov2_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(dinov2_folder, tmp_path, dirs_exist_ok=True)
    state = load_file(dinov2_folder / "model.safetensors")
    name = "encoder.layer.1.norm2.weight"
    wrong: dict[str, tuple[State, str]] = {
        "missing": ({k: v for k, v in state.items() if k != name}, rf"missing \['{name}'\]"),
        "extra": ({**state, "classifier.weight": torch.zeros(2)}, r"unexpected \['classifier.weight'\]"),
        "misshapen": ({**state, name: torch.zeros(3)}, rf"other shape \[.*{name}"),
        "nan": ({**state, name: torch.full((32,), torch.nan)}, rf"NaN or infinity: \['{name}'\]"),
    }
    for content, match in wrong.values():
        save_file(content, tmp_path / "model.safetensors")
        with pytest.raises(TaskError, match=match):
            load_extractor(tmp_path)


@pytest.mark.long
def test_transformers_is_loaded_by_this_extractor_alone(dinov2_folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from difftune_core.evaluate.features import load_extractor\n"
        "print('transformers' in sys.modules); load_extractor(Path(sys.argv[1])); print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, dinov2_folder], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_all_of_it_is_on_its_device(dinov2_folder: Path) -> None:
    extractor: Any = load_extractor(dinov2_folder, "meta")
    assert {extractor._mean.device.type, extractor._std.device.type} == {"meta"}
    assert {parameter.device.type for parameter in extractor._net.parameters()} == {"meta"}
