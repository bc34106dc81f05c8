"""One model in several processes: each takes its slots of every batch, and gradients are averaged between them.

Every process makes the draws of the whole batch by itself, since they are a function of (seed, step), so loss and
gradient are those of one process up to the order of sums; and as all of them take the same optimizer step, weights,
moments and average stay equal without being sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Replica:
    """This process's copy of what is trained; by default the only one."""

    model: nn.Module
    """What a step calls; among several, in the wrapper that averages gradients."""
    rank: int = 0
    world: int = 1

    def slots(self, size: int) -> slice:
        """The slots of a batch of `size` that are this process's."""
        share = size // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    def of_all(self, losses: Float[Tensor, " b"]) -> Float[Tensor, " n"]:
        """The losses of all processes, in the order of the batch's slots."""
        if self.world == 1:
            return losses
        found = [torch.empty_like(losses) for _ in range(self.world)]
        distributed.all_gather(found, losses)
        return torch.cat(found)
