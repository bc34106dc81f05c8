from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from difftune_core.evaluate import resizing
from difftune_core.evaluate.extractor import FeatureExtractor
from difftune_core.evaluate.features import load_extractor
from difftune_core.evaluate.inception import InceptionV3, load_inception
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, inception_state: State) -> Path:
    made = tmp_path_factory.mktemp("inception")
    save_file(inception_state, made / "model.safetensors")
    (made / "card.json").write_text(json.dumps({"kind": "inception", "id": "inception", "comparable": True}))
    return made


def reference(state: State, x: torch.Tensor) -> torch.Tensor:
    """The published graph, layer by layer, with normalisation and the average's count of pixels written out."""

    def conv(name: str, x: torch.Tensor, stride: int = 1, padding: int | tuple[int, int] = 0) -> torch.Tensor:
        x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        mean, var, weight, bias = (
            state[f"{name}.bn.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 0.001).sqrt() * weight + bias).clamp(min=0)

    def average(x: torch.Tensor) -> torch.Tensor:
        ones = torch.ones_like(x)
        return F.avg_pool2d(x, 3, 1, 1) / F.avg_pool2d(ones, 3, 1, 1)

    def chain(block: str, x: torch.Tensor, *steps: tuple[str, int | tuple[int, int]]) -> torch.Tensor:
        for name, padding in steps:
            x = conv(f"{block}.{name}", x, padding=padding)
        return x

    x = conv("Conv2d_2b_3x3", conv("Conv2d_2a_3x3", conv("Conv2d_1a_3x3", x, 2)), padding=1)
    x = F.max_pool2d(conv("Conv2d_4a_3x3", conv("Conv2d_3b_1x1", F.max_pool2d(x, 3, 2))), 3, 2)
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        deep = chain(block, x, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1), ("branch3x3dbl_3", 1))
        wide = chain(block, x, ("branch5x5_1", 0), ("branch5x5_2", 2))
        pool = conv(f"{block}.branch_pool", average(x))
        x = torch.cat([conv(f"{block}.branch1x1", x), wide, deep, pool], 1)
    deep = chain("Mixed_6a", x, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1))
    deep = conv("Mixed_6a.branch3x3dbl_3", deep, 2)
    x = torch.cat([conv("Mixed_6a.branch3x3", x, 2), deep, F.max_pool2d(x, 3, 2)], 1)
    row, column = (0, 3), (3, 0)
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        first = chain(block, x, ("branch7x7_1", 0), ("branch7x7_2", row), ("branch7x7_3", column))
        names = [f"branch7x7dbl_{i}" for i in range(1, 6)]
        deep = chain(block, x, *zip(names, [0, column, row, column, row], strict=True))
        pool = conv(f"{block}.branch_pool", average(x))
        x = torch.cat([conv(f"{block}.branch1x1", x), first, deep, pool], 1)
    first = conv("Mixed_7a.branch3x3_2", conv("Mixed_7a.branch3x3_1", x), 2)
    deep = chain("Mixed_7a", x, ("branch7x7x3_1", 0), ("branch7x7x3_2", row), ("branch7x7x3_3", column))
    x = torch.cat([first, conv("Mixed_7a.branch7x7x3_4", deep, 2), F.max_pool2d(x, 3, 2)], 1)
    for block in ("Mixed_7b", "Mixed_7c"):
        pool = average(x) if block == "Mixed_7b" else F.max_pool2d(x, 3, 1, 1)
        first = conv(f"{block}.branch3x3_1", x)
        deep = chain(block, x, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1))
        forks = [
            conv(f"{block}.{name}{end}", value, padding=padding)
            for name, value in (("branch3x3_2", first), ("branch3x3dbl_3", deep))
            for end, padding in (("a", (0, 1)), ("b", (1, 0)))
        ]
        x = torch.cat([conv(f"{block}.branch1x1", x), *forks, conv(f"{block}.branch_pool", pool)], 1)
    return x.flatten(2).sum(2) / (x.shape[2] * x.shape[3])


def test_names_and_shapes_are_the_published_ones(inception_state: State) -> None:
    """The digest was taken over the state of torch-fidelity's own module (less `fc` and `num_batches_tracked`)."""
    listing = "\n".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(inception_state.items()))
    wanted = "b628bc492e0cd5a5ea154bb78c4637db2a10ffa3c528519b65fb723b9bb5a5ac"
    assert hashlib.sha256(listing.encode()).hexdigest() == wanted
    classifier = 2048 * 1008 + 1008
    assert sum(parameter.numel() for parameter in InceptionV3().parameters()) + classifier == 23_850_960


@pytest.mark.parametrize("size", [75, 139])
def test_agrees_with_the_graph_written_out(folder: Path, inception_state: State, size: int) -> None:
    net = load_inception(folder / "model.safetensors")
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        found, wanted = net(x), reference(inception_state, x)
    assert wanted.std() > 0.1
    assert found == pytest.approx(wanted, abs=1e-4, rel=1e-4)


def test_the_extractor_says_what_it_is(folder: Path, inception_state: State) -> None:
    extractor = load_extractor(folder)
    assert isinstance(extractor, FeatureExtractor)
    assert extractor.digest == sha256_file(folder / "model.safetensors")
    assert (extractor.dim, extractor.input_size, extractor.comparable) == (2048, 299, True)
    assert "clean-fid" in extractor.resizing
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8)
    features = extractor(images)
    prepared = torch.from_numpy(resizing.clean_fid(images)).permute(0, 3, 1, 2)
    assert features == pytest.approx(reference(inception_state, prepared).numpy(), abs=1e-4, rel=1e-4)
    assert extractor(images[1:]) == pytest.approx(features[1:], abs=1e-4)
    assert extractor(images[:0]).shape == (0, 2048)


def test_the_card_chooses_the_resizing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    (tmp_path / "card.json").write_text(json.dumps({"kind": "inception", "resizing": "torch-fidelity"}))
    extractor = load_extractor(tmp_path)
    assert extractor.id == tmp_path.name
    assert not extractor.comparable
    assert "TensorFlow 1" in extractor.resizing
    (tmp_path / "card.json").write_text(json.dumps({"kind": "inception", "resizing": "nearest"}))
    with pytest.raises(TaskError, match="not the card of a feature extractor"):
        load_extractor(tmp_path)


def gradient(height: int, width: int) -> np.ndarray:
    """Levels that rise by column, alike in all rows."""
    return np.broadcast_to(np.arange(width)[None, :, None] * 10, (height, width, 3)).astype(np.uint8)[None]


def test_clean_fid_resizes_in_float_and_cuts_to_the_range() -> None:
    images = np.random.default_rng(0).integers(0, 2, (2, 64, 32, 3), dtype=np.uint8) * 255
    found = resizing.clean_fid(images) * 128 + 128
    assert found.shape == (2, 299, 299, 3)
    assert (found.min(), found.max()) == (0, 255)
    assert len(np.unique(found)) > 1000  # not rounded to 8 bits
    grey = images // 5 + 100  # far enough from the ends that neither pass of the 8-bit filter cuts anything
    rounded = np.asarray(Image.fromarray(grey[1]).resize((299, 299), Image.Resampling.BICUBIC))
    assert np.abs(resizing.clean_fid(grey)[1] * 128 + 128 - rounded).max() <= 1.5  # each of its passes rounds


def test_clean_fid_leaves_the_right_size_as_it_is() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3), dtype=np.uint8)
    assert np.array_equal(resizing.clean_fid(images) * 128 + 128, images)


def test_bilinear_filters_place_their_samples_as_their_packages_do() -> None:
    """On a ramp of 20 columns: pixel centres, cut at both ends, against corners, cut at the last."""
    columns = np.arange(299)
    centres = np.clip((columns + 0.5) * 20 / 299 - 0.5, 0, 19) * 10
    found = resizing.pytorch_fid(gradient(5, 20))[0, 7, :, 1]
    assert found == pytest.approx(2 * centres / 255 - 1, abs=1e-5)
    corners = np.minimum(columns * 20 / 299, 19) * 10
    found = resizing.torch_fidelity(gradient(5, 20))[0, 7, :, 1]
    assert found == pytest.approx((corners - 128) / 128, abs=1e-5)
    upright = resizing.torch_fidelity(gradient(5, 20).transpose(0, 2, 1, 3))[0, :, 7, 1]
    assert upright == pytest.approx(found, abs=1e-6)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, inception_state: State) -> None:
    path = tmp_path / "model.safetensors"
    name = "Mixed_7c.branch_pool.bn.running_var"
    state = {**inception_state, "AuxLogits.fc.weight": torch.zeros(1)}
    del state[name]
    save_file(state, path)
    with pytest.raises(TaskError, match=rf"missing \['{name}'\], unexpected \['AuxLogits.fc.weight'\]"):
        load_inception(path)
    broken = inception_state[name].clone()
    broken[3] = float("nan")
    save_file({**inception_state, name: broken}, path)
    with pytest.raises(TaskError, match=rf"NaN or infinity: \['{name}'\]"):
        load_inception(path)


def test_weights_other_than_the_cards_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    (tmp_path / "card.json").write_text(json.dumps({"kind": "inception", "digest": "0" * 64}))
    with pytest.raises(TaskError, match="do not fit the digest in its card"):
        load_extractor(tmp_path)
