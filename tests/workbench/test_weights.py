import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import difftune_core
from difftune_core.evaluate import tiny_features as features
from difftune_core.evaluate.tiny_features import TinyFeatureNet, load_feature_net
from workbench.tiny import train_autoencoder
from workbench.tiny.train_autoencoder import Fit
from workbench.tiny.train_features import augment
from workbench.tiny.training import Schedule, psnr, save_half, save_json, to_tensor
from workbench.tiny.world import BROAD_CLASSES, Split, World

WEIGHTS = Path(difftune_core.__path__[0]) / "weights"


def test_bundled_weights_are_small_and_half_precision() -> None:
    files = [file for name in ("tiny-dit", "tiny-features") for file in (WEIGHTS / name).rglob("*.safetensors")]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    for folder in ("tiny-dit/vae/diffusion_pytorch_model", "tiny-features/model"):
        with safe_open(WEIGHTS / f"{folder}.safetensors", "pt") as tensors:
            kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - not a mapping
        assert kinds <= {"F16", "I64"}


@pytest.mark.fonts
def test_the_autoencoder_restores_letters() -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(WEIGHTS / "tiny-dit" / "vae").float().eval()
    images = to_tensor(World(0, Split.HELD_OUT).source_batch(1000, 48)[0])
    assert psnr(images, train_autoencoder.reconstruct(vae, images)) > 23.0
    with torch.no_grad():
        latents = vae.encode(images * 2 - 1).latent_dist.sample()
    assert latents.shape == (48, 4, 8, 8)
    assert float(latents.std()) * vae.config.scaling_factor == pytest.approx(1.0, abs=0.1)


@pytest.mark.fonts
def test_the_feature_network_tells_letters_apart() -> None:
    net = load_feature_net(WEIGHTS / "tiny-features")
    images, labels = World(0, Split.HELD_OUT).broad_batch(10_000, 100)
    x = to_tensor(images)
    assert net(x).shape == (100, 64)
    assert net.logits(x).shape == (100, len(BROAD_CLASSES))
    # Chance is below one in a hundred.
    assert (net.logits(x).argmax(1).numpy() == labels).mean() > 0.5


def test_a_feature_network_survives_saving(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = TinyFeatureNet(5, (8, 8, 16)).eval()
    save_half(net.state_dict(), tmp_path / features.WEIGHTS)
    save_json(net.config, tmp_path / features.CONFIG)
    images = torch.rand(3, 3, 32, 32)
    assert torch.allclose(load_feature_net(tmp_path)(images), net(images), atol=1e-2)
    assert not list(tmp_path.glob(".*"))


def test_a_wrong_feature_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"classes": 5}))
    with pytest.raises(ValueError, match=r"config\.json: not the config of a TinyFeatureNet"):
        load_feature_net(tmp_path)


def test_augmentation_keeps_shape_and_range() -> None:
    torch.manual_seed(0)
    images = torch.rand(9, 3, 32, 32)
    changed = augment(images)
    assert changed.shape == images.shape
    assert float(changed.min()) >= 0.0
    assert float(changed.max()) <= 1.0
    assert not torch.equal(changed, images)


def test_a_step_of_training_lowers_the_autoencoder_s_loss() -> None:
    torch.manual_seed(0)
    model = Fit(4, (16, 32), 32, batch=4, axes=(), scaled_by="", save_every_s=1.0, made_by="").build()
    images = torch.rand(4, 3, 1, 1).expand(-1, -1, 32, 32) * 2 - 1
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(5):
        loss = train_autoencoder.loss_of(model, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    schedule = Schedule(peak=1.0, steps=1000, warmup=100)
    assert schedule.rate(0) == pytest.approx(0.01)
    assert schedule.rate(100) == pytest.approx(0.9755, abs=1e-3)
    assert schedule.rate(1000) == pytest.approx(0.0, abs=1e-9)
    assert Schedule(peak=1.0, steps=1, minutes=10.0).progress(10**6) < 0.01


def test_psnr_of_a_known_error() -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    assert psnr(images, images + 0.1) == pytest.approx(20.0, abs=1e-3)
    assert to_tensor(np.full((1, 32, 32, 3), 255, np.uint8)).max() == 1.0
