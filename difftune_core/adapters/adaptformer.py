"""AdaptFormer (Chen et al. 2022): a bottleneck at each MLP, inside the gate of the block's second branch.

Where exactly DiffFit's comparison put it into a DiT is not published; the trained count, 0.63 %, is the same.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from difftune_core.adapters.initial import by_fan_in
from difftune_core.networks.dit import DiT, DiTBlock, Mlp


class AdaptedMlp(Mlp):
    """An MLP with scale * up(relu(down(.))) of its input (parallel) or output (sequential) added."""

    def __init__(self, mlp: Mlp, *, bottleneck: int, scale: float, mode: Literal["parallel", "sequential"]) -> None:
        nn.Module.__init__(self)
        self.fc1, self.fc2 = mlp.fc1, mlp.fc2
        width, device = mlp.fc1.in_features, mlp.fc1.weight.device
        self.down = nn.Linear(width, bottleneck, device=device)
        self.up = nn.Linear(bottleneck, width, device=device)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)
        self.scale, self.mode = scale, mode

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        out = super().forward(x)
        added: Tensor = self.up(F.relu(self.down(x if self.mode == "parallel" else out)))
        return out + self.scale * added


@torch.no_grad()
def add_bottlenecks(
    model: DiT, *, bottleneck: int, scale: float, mode: Literal["parallel", "sequential"], seed: int
) -> None:
    """Give each MLP its bottleneck; its last layer starts at 0, so that the model is the same function."""
    for i, block in enumerate(model.blocks):
        assert isinstance(block, DiTBlock)
        block.mlp = mlp = AdaptedMlp(block.mlp, bottleneck=bottleneck, scale=scale, mode=mode)
        mlp.down.weight.copy_(by_fan_in(mlp.down.weight, seed=seed, name=f"blocks.{i}.mlp.down"))
