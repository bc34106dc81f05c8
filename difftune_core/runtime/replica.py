"""One model in several processes: each takes its slots of every batch, and gradients are averaged between them.

Every process makes the draws of the whole batch by itself, since they are a function of (seed, step), so loss and
gradient are those of one process up to the order of sums; and as all of them take the same optimizer step, weights,
moments and average stay equal without being sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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

    @contextmanager
    def gathering(self, *, is_last: bool) -> Iterator[None]:
        """Around a forward and backward pass of a part of the slots: gradients are averaged with the last part's."""
        if self.world == 1 or is_last:
            yield
            return
        model: Any = self.model
        with model.no_sync():
            yield

    def of_all(self, losses: Float[Tensor, " b"]) -> Float[Tensor, " n"]:
        """The losses of all processes, in the order of the batch's slots."""
        if self.world == 1:
            return losses
        found = [torch.empty_like(losses) for _ in range(self.world)]
        distributed.all_gather(found, losses)
        return torch.cat(found)
