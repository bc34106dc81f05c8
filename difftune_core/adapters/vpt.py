"""VPT-deep (Jia et al. 2022): each block has trained tokens of its own, which leave the sequence behind it.

Since they leave, only their keys and values matter, and nothing else is computed for them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from difftune_core.adapters.initial import uniform
from difftune_core.networks.dit import Attention, DiT, DiTBlock, Rows, modulate, told


class PromptedAttention(Attention):
    """Attention whose queries also see p prompts."""

    def __init__(self, attention: Attention, *, gated: bool) -> None:
        nn.Module.__init__(self)
        self.num_heads, self.qkv, self.proj = attention.num_heads, attention.qkv, attention.proj
        self.gate = (
            nn.Parameter(torch.zeros(attention.num_heads, 1, 1, device=attention.qkv.weight.device)) if gated else None
        )

    def with_prompts(self, x: Float[Tensor, "b n d"], prompts: Float[Tensor, "b p d"]) -> Float[Tensor, "b n d"]:
        """Attend to tokens and prompts, in one softmax or, gated, in two."""
        query, key, value = self._heads(self.qkv(x), 3)
        d = x.shape[2]
        more_keys, more_values = self._heads(F.linear(prompts, self.qkv.weight[d:], self.qkv.bias[d:]), 2)
        if self.gate is None:
            keys, values = torch.cat([more_keys, key], dim=2), torch.cat([more_values, value], dim=2)
            attended = F.scaled_dot_product_attention(query, keys, values)
        else:
            added = F.scaled_dot_product_attention(query, more_keys, more_values)
            attended = F.scaled_dot_product_attention(query, key, value) + self.gate.tanh() * added
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(x.shape))
        return projected

    def _heads(self, x: Float[Tensor, "b n kd"], parts: int) -> Float[Tensor, "{parts} b heads n e"]:
        return x.reshape(*x.shape[:2], parts, self.num_heads, -1).permute(2, 0, 3, 1, 4)


class PromptedBlock(DiTBlock):
    """A block with prompts, shifted and scaled by the condition as its tokens are."""

    attn: PromptedAttention

    def __init__(self, block: DiTBlock, prompts: Float[Tensor, "p d"], *, gated: bool) -> None:
        nn.Module.__init__(self)
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.adaLN_modulation = block.adaLN_modulation
        self.attn = PromptedAttention(block.attn, gated=gated)
        self.prompts = nn.Parameter(prompts)

    def forward(
        self, x: Float[Tensor, "b n d"], condition: Float[Tensor, "k d"], rows: Rows = None
    ) -> Float[Tensor, "b n d"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = told(self.adaLN_modulation, condition, rows).chunk(6, dim=1)
        prompts = modulate(self.norm1(self.prompts).expand(len(x), -1, -1), shift1, scale1)
        attended = self.attn.with_prompts(modulate(self.norm1(x), shift1, scale1), prompts)
        x = x + gate1[:, None] * attended
        out: Tensor = x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
        return out


def add_prompts(model: DiT, *, num_tokens: int, gated: bool, seed: int) -> None:
    """Give each block its prompts, from VPT's uniform law: bound sqrt(6 / (inputs of a patch + d))."""
    config, device = model.config, model.pos_embed.device
    bound = math.sqrt(6 / (config.in_channels * config.patch_size**2 + config.hidden_size))
    for i, block in enumerate(model.blocks):
        assert isinstance(block, DiTBlock)
        empty = torch.empty(num_tokens, config.hidden_size, device=device)
        prompts = uniform(empty, bound, seed=seed, name=f"blocks.{i}.prompts")
        model.blocks[i] = PromptedBlock(block, prompts, gated=gated)
