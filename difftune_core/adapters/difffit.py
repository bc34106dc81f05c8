"""DiffFit (Xie et al. 2023): biases, and scale factors in the first blocks.

Placed as in the authors' release for Diff-Tuning: on the outputs of qkv and of the attention's projection, and once
more on each of the two branches; 6 d factors a block. A branch ends in a linear layer, so that all of them scale the
outputs of linear layers and fold into their weights and biases.
"""

from __future__ import annotations

from functools import reduce
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn

from difftune_core.adapters.bitfit import unfreeze_biases
from difftune_core.networks.dit import DiT, DiTBlock


class ScaledLinear(nn.Linear):
    """A linear layer whose outputs are multiplied by trained factors, 1 at the start."""

    def __init__(self, linear: nn.Linear, num_scales: int) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scales = nn.Parameter(torch.ones(num_scales, linear.out_features, device=linear.weight.device))

    def forward(self, input: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:  # noqa: A002  # the base class's name
        return super().forward(input) * self._scale()

    def _scale(self) -> Float[Tensor, " o"]:
        return reduce(torch.mul, self.scales.unbind())

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Weight and bias of the plain linear layer that does the same."""
        scale = self._scale()
        return {"weight": self.weight * scale[:, None], "bias": self.bias * scale}


def add_difffit(model: DiT, *, last_block: int) -> None:
    """Unfreeze biases and put scale factors into blocks 1 to `last_block`, or all where there are fewer."""
    unfreeze_biases(model)
    for block in islice(model.blocks, last_block):
        assert isinstance(block, DiTBlock)
        block.attn.qkv = ScaledLinear(block.attn.qkv, 1)
        block.attn.proj = ScaledLinear(block.attn.proj, 2)  # its own and the branch's
        block.mlp.fc2 = ScaledLinear(block.mlp.fc2, 1)
