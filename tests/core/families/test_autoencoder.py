"""Our autoencoder against diffusers' own, which it reads the weights of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from difftune_core.hooks import TaskError
from difftune_core.networks.autoencoder import Autoencoder

_ANATOMIES: dict[str, dict[str, Any]] = {
    "ours": {"block_out_channels": (8, 16), "norm_num_groups": 1, "mid_block_add_attention": False},
    "published": {"block_out_channels": (32, 64, 64), "layers_per_block": 2},
    "newer": {"block_out_channels": (32, 64), "latent_channels": 16, "use_quant_conv": False},
    "attention in its blocks": {"block_out_channels": (32, 64), "down": "AttnDownEncoderBlock2D"},
}


def _theirs(anatomy: dict[str, Any]) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    own = dict(anatomy)
    count, down = len(own["block_out_channels"]), own.pop("down", "DownEncoderBlock2D")
    maker: Any = AutoencoderKL
    torch.manual_seed(0)
    made = maker(down_block_types=(down,) * count, up_block_types=("UpDecoderBlock2D",) * count, **own)
    return made.eval()


@pytest.mark.parametrize("anatomy", _ANATOMIES.values(), ids=_ANATOMIES)
def test_latents_and_pixels_are_those_of_diffusers_bit_for_bit(anatomy: dict[str, Any], tmp_path: Path) -> None:
    theirs = _theirs(anatomy)
    theirs.save_pretrained(tmp_path)
    ours, scale = Autoencoder(tmp_path), theirs.config.scaling_factor
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

    mean, std = ours.encode(images)
    with torch.inference_mode():
        posterior = theirs.encode(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist
        assert torch.equal(mean, (posterior.mean * scale).half())
        assert torch.equal(std, (posterior.std * scale).half())
        pixels = theirs.decode(mean.float() / scale).sample
    expected = ((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(ours.decode(mean.float()), expected)


def test_weights_that_lack_a_layer_are_refused_by_its_name(tmp_path: Path) -> None:
    theirs = _theirs(_ANATOMIES["ours"])
    theirs.save_config(tmp_path)
    weights = theirs.state_dict()
    del weights["decoder.conv_out.bias"]
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(TaskError, match=r"missing \['decoder.conv_out.bias'\]"):
        Autoencoder(tmp_path)


def test_a_config_that_is_no_json_is_refused_by_the_name_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps([]))
    with pytest.raises(TaskError, match="vae/") as caught:
        Autoencoder(tmp_path)
    assert caught.value.code == "unreadable_weights"
