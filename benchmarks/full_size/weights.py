"""Models of published size with random weights, in the formats that their publishers use."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from difftune_core.evaluate.inception import InceptionV3
from difftune_core.networks.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from difftune_core.networks.dit import PRESETS, DiT
from workbench.tiny.tokenizer import write_tokenizer

_STD = 0.02
_VAE = AutoencoderConfig(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
_LENGTH = 77  # tokens of a prompt


def write_dit(path: Path) -> Path:
    """Write a DiT-XL/2 as the authors' checkpoints are: a pickled state of float32."""
    torch.save(_random(DiT(PRESETS["DiT-XL/2"])).state_dict(), path)
    return path


def write_autoencoder(folder: Path) -> Path:
    """Write an autoencoder of Stable Diffusion's size in a folder of diffusers."""
    folder.mkdir(parents=True)
    levels = len(_VAE.block_out_channels)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
    config = {"_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "act_fn": "silu", **blocks}
    config |= {**asdict(_VAE), "sample_size": 256, "scaling_factor": 0.18215}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(AutoencoderKL(_VAE).state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return folder


def write_inception(path: Path) -> Path:
    """Write FID's Inception in the published layout."""
    state = _random(InceptionV3()).state_dict()
    for name, tensor in state.items():
        if ".bn." in name:  # which the network leaves as the memory was
            tensor.fill_(1.0 if name.endswith(("weight", "running_var")) else 0.0)
    torch.save(state, path)
    return path


def write_stable_diffusion(folder: Path) -> Path:
    """Write a pipeline of the size of Stable Diffusion 1.5; its tokenizer is a small one of our own."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet_class: Any = UNet2DConditionModel
    _random(unet_class(sample_size=64, cross_attention_dim=768)).save_pretrained(folder / "unet")
    tokenizer = write_tokenizer(folder / "tokenizer", _LENGTH)
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    text_class: Any = CLIPTextModel
    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, **ends)
    text_class(text).save_pretrained(folder / "text_encoder")
    write_autoencoder(folder / "vae")
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    scheduler = {"_class_name": "DDIMScheduler", **noise, "prediction_type": "epsilon", "steps_offset": 1}
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler), encoding="utf-8")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@torch.no_grad()
def _random(network: Any) -> Any:
    """Draw all weights anew: what a publisher starts at zero would leave parts of the network without effect."""
    assert isinstance(network, nn.Module)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and "norm" not in name and "bn" not in name:  # positions stay what they are
            parameter.normal_(std=_STD)
    return network
