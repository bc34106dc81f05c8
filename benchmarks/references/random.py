"""Networks of published size with random weights, straight on a device: speed does not depend on what they know."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from difftune_core.networks.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from difftune_core.networks.dit import DiT, DiTConfig

SCALE = 0.18215
"""What Stable Diffusion's latents are multiplied by."""
OF_STABLE_DIFFUSION = AutoencoderConfig(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
_STD = 0.02
_Network = TypeVar("_Network", bound=nn.Module)


def random_dit(config: DiTConfig, device: torch.device) -> DiT:
    """Make a DiT whose gates are open, so that every weight matters."""
    with torch.device(device):
        return drawn(DiT(config))


def random_autoencoder(config: AutoencoderConfig, device: torch.device) -> AutoencoderKL:
    """Make an autoencoder."""
    with torch.device(device):
        return AutoencoderKL(config)


@torch.no_grad()
def drawn(network: _Network) -> _Network:
    """Draw all trained weights anew but those of norms."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and "norm" not in name and "bn" not in name:
            parameter.normal_(std=_STD)
    return network
