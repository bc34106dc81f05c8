"""One model in several processes: each takes its slots of every batch, and gradients are averaged between them.

Every process makes the draws of the whole batch by itself, since they are a function of (seed, step), so loss and
gradient are those of one process up to the order of sums; and as all of them take the same optimizer step, weights,
moments and average stay equal without being sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]  # public, but not listed

if TYPE_CHECKING:
    from difftune_core.train.state import TrainState

_PATIENCE = timedelta(days=365)
"""How long a process waits for the others. Who is dead is noticed by its exit, who stands still by the supervisor."""


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


def join(state: TrainState[Any], *, rank: int, world: int, meeting: Path) -> None:
    """Train together with the processes that meet by a file; waits for all of them.

    Raises:
        RuntimeError: they do not go on from the same step.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    on_gpu = torch.cuda.is_available()
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _loopback())
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=FileStore(str(meeting), world),  # no port for strangers to find
        rank=rank,
        world_size=world,
        timeout=_PATIENCE,
    )
    with _found_by_accelerate(rank, world):
        accelerator = Accelerator(
            cpu=not on_gpu, kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
        )
    state.replica = Replica(accelerator.prepare_model(state.model), rank, world)
    steps = state.replica.of_all(torch.tensor([float(state.step)], device=accelerator.device))
    if len(set(steps.tolist())) > 1:
        raise RuntimeError(f"the processes go on from different steps: {steps.tolist()}")


def leave(state: TrainState[Any]) -> None:
    """Train alone again."""
    state.replica = Replica(state.model)
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _found_by_accelerate(rank: int, world: int) -> Iterator[None]:
    """Variables as a launcher sets them, and the thread count, which accelerate would change without its variable."""
    before = dict(os.environ)
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update({name: str(value) for name, value in places.items()})
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _loopback() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in ("lo", "lo0") if name in names), names[0])
