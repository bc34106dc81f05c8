"""The DiT transformer (Peebles and Xie 2023): adaLN-Zero blocks over latent patches.

One timestep and one label embedder for all blocks; parameters carry the names of the published checkpoints.
Shapes: b batch, c latent channels, h w latent height and width, n tokens, d hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from difftune_core.config.sampling import Prediction, ProcessName
from difftune_core.runtime.precision import computing_in

Rows = Int[Tensor, " b"] | None
"""Number of each image's own condition; None where there is one for each."""
_FREQUENCY_DIM = 256
_MAX_PERIOD = 10_000


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Anatomy of a DiT; `PRESETS` has the published ones."""

    input_size: int = 32
    """Latent height and width."""
    patch_size: int = 2
    in_channels: int = 4
    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_classes: int = 1000
    """Label rows without the null row, which is the row after the last class."""
    learn_sigma: bool = True
    """Whether the output carries a variance beside the noise."""
    timestep_frequencies: Literal["original", "diffusers"] = "original"
    """The original divides the exponent by half the frequencies, diffusers by half - 1."""
    process: ProcessName = "ddpm"
    """How noise enters."""
    prediction: Prediction = "epsilon"
    """What the first `in_channels` of the output are, for `ddpm`; `flow` puts out a velocity, `edm` its F."""
    sigma_data: float = 0.5
    """Standard deviation of the latents, for `edm`."""

    @property
    def out_channels(self) -> int:
        """Channels of the output: the prediction, and variance where it is learned."""
        return self.in_channels * 2 if self.learn_sigma else self.in_channels


_SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
PRESETS = {
    f"DiT-{size}/{patch}": DiTConfig(hidden_size=hidden, depth=depth, num_heads=heads, patch_size=patch)
    for size, (hidden, depth, heads) in _SIZES.items()
    for patch in (2, 4, 8)
}


def timestep_embedding(
    t: Float[Tensor, " b"], dim: int, convention: Literal["original", "diffusers"] = "original"
) -> Float[Tensor, "b {dim}"]:
    """Cosines, then sines, of t at geometrically spaced frequencies from 1 down to 1/10000."""
    half = dim // 2
    steps = half if convention == "original" else half - 1
    frequencies = torch.exp(-math.log(_MAX_PERIOD) * torch.arange(half, dtype=torch.float32, device=t.device) / steps)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def position_embedding(dim: int, grid: int) -> Float[Tensor, "1 n {dim}"]:
    """Fixed 2-D sine-cosine embedding: the first half of the channels encodes the column, the second the row."""
    frequencies = 1.0 / _MAX_PERIOD ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = line.repeat(grid, 1), line.repeat_interleave(grid, dim=0)
    return torch.cat([columns, rows], dim=1).float()[None]


def modulate(
    x: Float[Tensor, "b n d"], shift: Float[Tensor, "b d"], scale: Float[Tensor, "b d"]
) -> Float[Tensor, "b n d"]:
    """Adaptive layer norm's affine part."""
    return x * (1 + scale[:, None]) + shift[:, None]


def told(modulation: nn.Sequential, condition: Float[Tensor, "k d"], rows: Rows) -> Float[Tensor, "b md"]:
    """Return what a block is told: shifts, scales and gates of every image, from the conditions or their rows."""
    found: Tensor = modulation(condition)
    return found if rows is None else found[rows]


class PatchEmbed(nn.Module):
    """Linear embedding of non-overlapping patches."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            config.in_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        tokens: Tensor = self.proj(x)
        return tokens.flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """Sinusoids through two linear layers; nothing where no time is told (`diffusion.denoisers.NO_TIME`)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.convention = config.timestep_frequencies
        self.mlp = nn.Sequential(
            nn.Linear(_FREQUENCY_DIM, config.hidden_size), nn.SiLU(), nn.Linear(config.hidden_size, config.hidden_size)
        )

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        is_told = t.isfinite()
        clean = torch.where(is_told, t, 0.0)  # a sine of infinity would spoil the gradient of the others
        embedded: Tensor = self.mlp(timestep_embedding(clean, _FREQUENCY_DIM, self.convention))
        return torch.where(is_told[:, None], embedded, 0.0)


class LabelEmbedder(nn.Module):
    """A table with one row for each class and the null row last."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(config.num_classes + 1, config.hidden_size)

    def forward(self, y: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        rows: Tensor = self.embedding_table(y)
        return rows


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        b, n, d = x.shape
        query, key, value = self.qkv(x).reshape(b, n, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(b, n, d))
        return projected


class Mlp(nn.Module):
    """Two linear layers with tanh-approximated GELU."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        inner = int(config.hidden_size * config.mlp_ratio)
        self.fc1 = nn.Linear(config.hidden_size, inner)
        self.fc2 = nn.Linear(inner, config.hidden_size)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return out


def _layer_norm(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)


class DiTBlock(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the condition (adaLN-Zero)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm1 = _layer_norm(config.hidden_size)
        self.attn = Attention(config)
        self.norm2 = _layer_norm(config.hidden_size)
        self.mlp = Mlp(config)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.hidden_size, 6 * config.hidden_size))

    def forward(
        self, x: Float[Tensor, "b n d"], condition: Float[Tensor, "k d"], rows: Rows = None
    ) -> Float[Tensor, "b n d"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = told(self.adaLN_modulation, condition, rows).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
        out: Tensor = x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
        return out


class FinalLayer(nn.Module):
    """Modulated norm and a linear map to patches."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm_final = _layer_norm(config.hidden_size)
        self.linear = nn.Linear(config.hidden_size, config.patch_size**2 * config.out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.hidden_size, 2 * config.hidden_size))

    def forward(
        self, x: Float[Tensor, "b n d"], condition: Float[Tensor, "k d"], rows: Rows = None
    ) -> Float[Tensor, "b n p"]:
        shift, scale = told(self.adaLN_modulation, condition, rows).chunk(2, dim=1)
        patches: Tensor = self.linear(modulate(self.norm_final(x), shift, scale))
        return patches


class DiT(nn.Module):
    """The denoiser: a prediction (and variance) from noised latents, timesteps and labels."""

    trained_beside = ("y_embedder.embedding_table",)
    """What is trained with every adapter: the base model has no rows for the target's classes."""
    _repeated_blocks = ("DiTBlock",)
    computes_in: torch.dtype | None = None
    """Type that the frozen weights are kept in (`runtime.precision`)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = PatchEmbed(config)
        self.t_embedder = TimestepEmbedder(config)
        self.y_embedder = LabelEmbedder(config)
        grid = config.input_size // config.patch_size
        self.pos_embed = nn.Parameter(position_embedding(config.hidden_size, grid), requires_grad=False)
        self.blocks = nn.ModuleList([DiTBlock(config) for _ in range(config.depth)])
        self._called: Callable[..., Any] = _call
        self.final_layer = FinalLayer(config)
        _initialise(self)

    @property
    def null_label(self) -> int:
        """Row of the label table that means "no class"."""
        return self.config.num_classes

    def enable_gradient_checkpointing(self, called: Callable[..., Any]) -> None:
        """Call each block by `called`, with the block first, where there are gradients; the name is diffusers'."""
        self._called = called

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Int[Tensor, " b"]
    ) -> Float[Tensor, "b out h w"]:
        """Predict for latents x at timesteps t (0..T-1) with labels y (null label: `null_label`), in float32."""
        with computing_in(self):
            return self._predict(x, self.t_embedder(t) + self.y_embedder(y), None).float()

    def at_one_time(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, "1"], labels: Int[Tensor, " k"], rows: Int[Tensor, " b"]
    ) -> Float[Tensor, "b out h w"]:
        """Predict for latents all at timestep t, image i of `labels[rows[i]]`; blocks are told once for each label."""
        with computing_in(self):
            return self._predict(x, self.t_embedder(t) + self.y_embedder(labels), rows).float()

    def _predict(
        self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "k d"], rows: Rows
    ) -> Float[Tensor, "b out h w"]:
        tokens = self.x_embedder(x) + self.pos_embed
        call = self._called if torch.is_grad_enabled() else _call
        for block in self.blocks:
            tokens = call(block, tokens, condition, rows)
        return self._unpatchify(self.final_layer(tokens, condition, rows))

    def _unpatchify(self, patches: Float[Tensor, "b n p"]) -> Float[Tensor, "b out h w"]:
        b, grid, size = len(patches), self.config.input_size // self.config.patch_size, self.config.patch_size
        cells = patches.reshape(b, grid, grid, size, size, self.config.out_channels)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, grid * size, grid * size)


def _call(block: nn.Module, *given: Tensor | None) -> Tensor:
    called: Tensor = block(*given)
    return called


def _initialise(model: DiT) -> None:
    """The paper's: Xavier for linear maps, normal(0.02) for embedders, zero for every gate and the output."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(model.x_embedder.proj.weight.view(model.config.hidden_size, -1))
    nn.init.zeros_(_bias(model.x_embedder.proj))
    nn.init.normal_(model.y_embedder.embedding_table.weight, std=0.02)
    for layer in (model.t_embedder.mlp[0], model.t_embedder.mlp[2]):
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=0.02)
    zeroed = [model.final_layer.linear, *(m.adaLN_modulation[1] for m in [*model.blocks, model.final_layer])]
    for layer in zeroed:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def _bias(module: nn.Conv2d) -> Tensor:
    assert module.bias is not None
    return module.bias
