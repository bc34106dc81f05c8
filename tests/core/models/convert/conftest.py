from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from difftune_core.families.dit.export import to_diffusers_state
from difftune_core.networks.dit import DiT, DiTConfig

CONFIG = DiTConfig(input_size=8, hidden_size=32, depth=2, num_heads=2, num_classes=5)
WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMER = {
    "_class_name": "DiTTransformer2DModel",
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "sample_size": 8,
    "patch_size": 2,
    "norm_eps": 1e-6,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_name_or_path": "/home/somebody/vae",
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [4, 4, 8],
    "norm_num_groups": 1,
    "scaling_factor": 0.5,
}


def random_state(config: DiTConfig) -> dict[str, torch.Tensor]:
    """The original's names with random values, and its own position embedding."""
    torch.manual_seed(0)
    model = DiT(config)
    return {n: t.detach() if n == "pos_embed" else torch.randn_like(t) * 0.1 for n, t in model.state_dict().items()}


def write_component(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / WEIGHTS)
    return folder


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return random_state(CONFIG)


@pytest.fixture
def theirs() -> dict[str, torch.Tensor]:
    """The names of diffusers, with a table of 1001 random rows."""
    return to_diffusers_state(random_state(replace(CONFIG, num_classes=1000)), CONFIG.depth)


@pytest.fixture(scope="session")
def vae_state() -> dict[str, torch.Tensor]:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    made: Any = AutoencoderKL
    return made.from_config(VAE).state_dict()
