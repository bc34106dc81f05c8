"""The autoencoder of latent diffusion (Rombach et al., CVPR 2022), in the layout of diffusers' `AutoencoderKL`.

A trainer needs it in every run, and importing diffusers' takes two to three times as long as importing torch: it loads
every other autoencoder, transformers, peft and torch's compiler beside it. Names of modules are those of diffusers'
weights; results are equal to its own bit for bit. Shapes: n images of s x s pixels, c latent channels, h w latent size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_EPS = 1e-6
_LOG_VARIANCE = (-30.0, 20.0)
_DOWN, _UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
_ACTIVATIONS = ("silu", "swish")


@dataclass(frozen=True)
class AutoencoderConfig:
    """The anatomy of an autoencoder, as far as published ones differ in it."""

    block_out_channels: tuple[int, ...] = (64,)
    """Channels of each level, from the pixels down; every level but the last halves the side."""
    layers_per_block: int = 1
    latent_channels: int = 4
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True


def anatomy_of(config: Mapping[str, Any]) -> AutoencoderConfig | None:
    """Read diffusers' `config.json`; None where it asks for blocks that are not here."""
    levels = tuple(config.get("block_out_channels", AutoencoderConfig.block_out_channels))
    blocks = [config.get("down_block_types", [_DOWN]), config.get("up_block_types", [_UP])]
    is_known = (
        [list(kinds) for kinds in blocks] == [[_DOWN] * len(levels), [_UP] * len(levels)]
        and config.get("act_fn", "silu") in _ACTIVATIONS
        and (config.get("in_channels", 3), config.get("out_channels", 3)) == (3, 3)
    )
    own = {field.name: config[field.name] for field in fields(AutoencoderConfig) if field.name in config}
    return AutoencoderConfig(**{**own, "block_out_channels": levels}) if is_known else None


class AutoencoderKL(nn.Module):
    """Encoder and decoder between pixels in [-1, 1] and latents, 2^(levels - 1) pixels to a latent's side."""

    def __init__(self, config: AutoencoderConfig) -> None:
        """Build the network; its weights are drawn at random."""
        super().__init__()
        channels = config.latent_channels
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1) if config.use_quant_conv else nn.Identity()
        self.post_quant_conv = nn.Conv2d(channels, channels, 1) if config.use_post_quant_conv else nn.Identity()

    def encode(self, pixels: Float[Tensor, "n 3 s s"]) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
        """Mean and standard deviation of the posterior."""
        mean, log_variance = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return mean, torch.exp(0.5 * log_variance.clamp(*_LOG_VARIANCE))

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 s s"]:
        """Pixels, of which some may lie a little outside [-1, 1]."""
        pixels: Tensor = self.decoder(self.post_quant_conv(latents))
        return pixels


class _Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        levels, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(3, levels[0], 3, padding=1)
        steps = pairwise((levels[0], *levels))
        self.down_blocks = nn.ModuleList(
            _Level(before, after, config.layers_per_block, groups, down=number < len(levels) - 1)
            for number, (before, after) in enumerate(steps)
        )
        self.mid_block = _Middle(levels[-1], groups, attends=config.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, levels[-1], eps=_EPS)
        self.conv_out = nn.Conv2d(levels[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        x = self.mid_block(x)
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return out


class _Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        levels, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, levels[0], 3, padding=1)
        self.mid_block = _Middle(levels[0], groups, attends=config.mid_block_add_attention)
        steps = pairwise((levels[0], *levels))
        self.up_blocks = nn.ModuleList(
            _Level(before, after, config.layers_per_block + 1, groups, up=number < len(levels) - 1)
            for number, (before, after) in enumerate(steps)
        )
        self.conv_norm_out = nn.GroupNorm(groups, levels[-1], eps=_EPS)
        self.conv_out = nn.Conv2d(levels[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for level in self.up_blocks:
            x = level(x)
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return out


class _Level(nn.Module):
    """Residual blocks of one resolution, and the step to the next one."""

    def __init__(
        self, before: int, after: int, layers: int, groups: int, *, down: bool = False, up: bool = False
    ) -> None:
        super().__init__()
        widths = pairwise((before, *[after] * layers))
        self.resnets = nn.ModuleList(_Residual(inner, outer, groups) for inner, outer in widths)
        if down:
            self.downsamplers = nn.ModuleList([_Halving(after)])
        if up:
            self.upsamplers = nn.ModuleList([_Doubling(after)])

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():  # in the order of their making
            for layer in part.children():
                x = layer(x)
        return x


class _Middle(nn.Module):
    """Two residual blocks, with one head of attention over all places between them."""

    def __init__(self, width: int, groups: int, *, attends: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([_Attention(width, groups)] if attends else [])
        self.resnets = nn.ModuleList(_Residual(width, width, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        out: Tensor = self.resnets[1](x)
        return out


class _Residual(nn.Module):
    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=_EPS)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, after, eps=_EPS)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.conv_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        out: Tensor = (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + y
        return out


class _Attention(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=_EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        places = self.group_norm(x.flatten(2)).transpose(1, 2)
        query, key, value = (to(places)[:, None] for to in (self.to_q, self.to_k, self.to_v))
        seen = functional.scaled_dot_product_attention(query, key, value)[:, 0]
        out: Tensor = self.to_out[0](seen).transpose(1, 2).reshape(x.shape) + x
        return out


class _Halving(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return out


class _Doubling(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out
