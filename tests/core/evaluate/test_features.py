from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from difftune_core.evaluate.compare import compare
from difftune_core.evaluate.features import FeatureExtractor, load_extractor, resize
from difftune_core.evaluate.folders import evaluate_folders
from difftune_core.evaluate.grids import image_grid
from difftune_core.evaluate.tiny_features import TinyFeatureNet, load_feature_net
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError


@pytest.fixture(scope="module")
def extractor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the tiny family with random weights: small, but real."""
    folder = tmp_path_factory.mktemp("tiny-random")
    torch.manual_seed(0)
    net = TinyFeatureNet(10)
    (folder / "config.json").write_text(json.dumps(net.config))
    (folder / "card.json").write_text(json.dumps({"kind": "tiny"}))
    save_file(net.state_dict(), folder / "model.safetensors")
    return folder


def pictures(seed: int, n: int, size: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (n, 1, 1, 3)) * rng.random((n, size, size, 1))).astype(np.uint8)


def write(folder: Path, images: np.ndarray) -> Path:
    for i, image in enumerate(images):
        path = folder / f"class{i % 2}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def test_the_extractor_says_what_it_is(extractor_folder: Path) -> None:
    extractor = load_extractor(extractor_folder)
    assert isinstance(extractor, FeatureExtractor)
    assert extractor.digest == sha256_file(extractor_folder / "model.safetensors")
    assert (extractor.dim, extractor.input_size, extractor.comparable) == (64, 32, False)
    assert extractor.id == extractor_folder.name


def test_features_do_not_depend_on_the_batch(extractor_folder: Path) -> None:
    extractor, images = load_extractor(extractor_folder), pictures(0, 300)
    together = extractor(images)
    assert together.shape == (300, 64)
    assert np.concatenate([extractor(images[:7]), extractor(images[7:])]) == pytest.approx(together, abs=1e-4)
    assert extractor(images[:0]).shape == (0, 64)


def test_no_device_may_round_the_network_s_products_to_tf32(
    extractor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, cudnn = load_extractor(extractor_folder), torch.backends.cudnn
    seen = []

    def forward(prepared: torch.Tensor) -> torch.Tensor:
        seen.append((cudnn.enabled, cudnn.deterministic, cudnn.allow_tf32, torch.is_grad_enabled()))
        return torch.zeros(len(prepared), 64)

    monkeypatch.setattr(extractor, "_forward", forward)
    extractor(pictures(0, 1))
    extractor.features(pictures(0, 1))
    assert seen == [(True, True, False, False)] * 2


def test_the_network_sees_levels_from_0_to_1(extractor_folder: Path) -> None:
    images = pictures(0, 5)
    levels = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    with torch.inference_mode():
        expected = load_feature_net(extractor_folder)(levels.float()).numpy()
    assert load_extractor(extractor_folder)(images) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_other_sizes_are_brought_to_the_input_size_by_pil(extractor_folder: Path) -> None:
    extractor, images = load_extractor(extractor_folder), pictures(0, 3, size=48)
    by_hand = np.stack([np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BICUBIC)) for i in images])
    assert np.array_equal(resize(images, 32), by_hand)
    assert np.array_equal(extractor(images), extractor(by_hand))


def test_an_unknown_extractor_is_named(tmp_path: Path, extractor_folder: Path) -> None:
    with pytest.raises(TaskError, match="no feature extractor in 'nowhere'"):
        load_extractor(tmp_path / "nowhere")
    (tmp_path / "card.json").write_text('{"kind": "inception-2099"}')
    with pytest.raises(TaskError, match="inception-2099"):
        load_extractor(tmp_path)
    (tmp_path / "card.json").write_text('{"kind": "tiny"}')
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((extractor_folder / "model.safetensors").read_bytes())
    with pytest.raises(TaskError, match=r"config.json: not the config of a TinyFeatureNet"):
        load_extractor(tmp_path)


def test_a_comparison_says_how_it_was_made(extractor_folder: Path) -> None:
    extractor = load_extractor(extractor_folder)
    features = extractor(pictures(0, 300)).astype(np.float64)
    rng = np.random.default_rng(0)
    result = compare(features + rng.normal(size=features.shape) * 0.1, features[:200], extractor=extractor)
    assert (result["num_real"], result["num_fake"]) == (300, 200)
    assert result["extractor"] == {
        "id": extractor.id, "digest": extractor.digest, "num_features": 64, "comparable_with_published": False,
    }  # fmt: skip
    assert result["fid_interval"][0] < result["fid"] < result["fid_interval"][1]
    assert json.loads(json.dumps(result)) == result
    assert "warnings" not in result
    assert "no full covariance" in compare(features, features[:50])["warnings"][0]


def test_folders_are_compared_image_by_image(tmp_path: Path, extractor_folder: Path) -> None:
    real, fake = pictures(1, 150), pictures(2, 140)
    write(tmp_path / "real", real)
    (tmp_path / "real" / "README.md").write_text("stray files are no images", encoding="utf-8")
    result = evaluate_folders(tmp_path / "real", write(tmp_path / "fake", fake), [extractor_folder])
    extractor = load_extractor(extractor_folder)
    wanted = compare(extractor(real), extractor(fake))
    assert result["fid"] == pytest.approx(wanted["fid"], rel=1e-3)
    assert result["kid"] == pytest.approx(wanted["kid"], rel=1e-3)
    assert result["recipe"]["real_digest"] != result["recipe"]["fake_digest"]
    same = evaluate_folders(tmp_path / "real", tmp_path / "real", [extractor_folder])
    assert same["fid"] == pytest.approx(0, abs=1e-6)


def test_figures_of_several_extractors_stand_side_by_side(
    tmp_path: Path, extractor_folder: Path, dinov2_folder: Path
) -> None:
    real, fake = write(tmp_path / "real", pictures(1, 110, 40)), write(tmp_path / "fake", pictures(2, 104, 24))
    Image.fromarray(pictures(3, 1, 70)[0, :50]).save(real / "class0" / "odd.png")  # sizes may differ
    result = evaluate_folders(real, fake, [extractor_folder, dinov2_folder], ["fid", "precision_recall"])
    tiny = evaluate_folders(real, fake, [extractor_folder], ["fid", "precision_recall"])
    assert all(result[name] == value for name, value in tiny.items() if name != "recipe")
    assert (result["num_real"], result["num_fake"]) == (111, 104)
    assert result["fd_dinov2"] > 0
    assert result["fd_dinov2_interval"][0] < result["fd_dinov2"]
    assert {"recall", "recall_dinov2"} <= result.keys()
    assert "kd_dinov2" not in result
    assert [extractor["id"] for extractor in result["extractors"]] == [extractor_folder.name, "dinov2"]
    assert result["extractor"]["id"] == extractor_folder.name
    assert "centre crop" in result["recipe"]["resize"]
    assert "224" in result["recipe"]["resizes"]["dinov2"]
    with pytest.raises(TaskError, match="would both give 'fd_dinov2'"):
        evaluate_folders(real, fake, [dinov2_folder, dinov2_folder])


def test_a_bad_file_in_a_folder_is_named(tmp_path: Path, extractor_folder: Path) -> None:
    write(tmp_path / "real", pictures(1, 10))
    (tmp_path / "real" / "class0" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(TaskError, match=r"class0/cut.png: .*truncated_image"):
        evaluate_folders(tmp_path / "real", tmp_path / "real", [extractor_folder])
    (tmp_path / "none").mkdir()
    with pytest.raises(TaskError, match="none holds no images"):
        evaluate_folders(tmp_path / "none", tmp_path / "none", [extractor_folder])


def test_a_grid_shows_every_image_in_its_place() -> None:
    images = pictures(0, 5, size=4)
    grid = np.asarray(image_grid(images, 3, 2))
    assert grid.shape == (18, 28, 4)
    assert np.array_equal(grid[10:18:2, 10:18:2, :3], images[4])
    assert grid[8, 0, 3] == 0
    assert grid[17, 27, 3] == 0
    assert np.asarray(image_grid(images[:2], 3)).shape == (4, 9, 4)
    with pytest.raises(ValueError, match="needs images"):
        image_grid(images[:0], 3)
