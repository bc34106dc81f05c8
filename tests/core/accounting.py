"""What memory a run takes for weights: copies of the whole model that are alive, by phase and by owner."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from difftune_core.checkpoint.state import TrainState
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.hooks import Event, StopKind
from difftune_core.interruption import interruptible
from difftune_core.train.run import prepared
from tests.core.conftest import RecordingHooks
from tests.core.runs import BUNDLED, ToyFolders

Copies = dict[str, float]
"""By owner: bytes of its tensors over those of the model."""


@dataclass
class Accountant(RecordingHooks):
    """Looks at what is alive wherever a stop could take effect: between steps, in each step of sampling."""

    whole: int
    """Bytes of one copy of the weights."""
    state: TrainState[Any] | None = None
    most: dict[str, Copies] = field(default_factory=lambda: defaultdict(dict))
    """By phase and owner: the most that was alive."""

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def phase(self) -> str:
        return next((event.phase for event in reversed(self.events) if event.type == "phase"), "")

    def emit(self, event: Event) -> None:
        self.look()
        super().emit(event)

    def stop_requested(self) -> StopKind | None:
        self.look()
        return None

    def look(self) -> None:
        if self.state is None:
            return
        seen = self.most[self.phase]
        for owner, copies in self.alive(self.state).items():
            seen[owner] = max(seen.get(owner, 0.0), copies)

    def alive(self, state: TrainState[Any]) -> Copies:
        """Every storage once, at the first owner that has it."""
        moments = [tensor for kinds in state.optimizer.state.values() for tensor in kinds.values()]
        owners: dict[str, Iterable[Tensor]] = {
            "raw": state.model.parameters(),
            "average": state.average.parameters(),
            "moments": moments,
            "gradients": [p.grad for p in state.model.parameters() if p.grad is not None],
            "others": [found for found in gc.get_objects() if issubclass(type(found), Tensor)],
        }
        counted: set[int] = set()
        copies = {owner: self._bytes(tensors, counted) / self.whole for owner, tensors in owners.items()}
        return copies | {"all": sum(copies.values())}

    def _bytes(self, tensors: Iterable[Tensor], counted: set[int]) -> int:
        total = 0
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if tensor.device.type != "meta" and storage.data_ptr() not in counted:
                counted.add(storage.data_ptr())
                total += storage.nbytes()
        return total


def copies_in_a_run(toy: ToyFolders, config: TransferConfig, *, whole: int) -> dict[str, Copies]:
    """Train and judge; by phase, the most copies of the weights that were alive."""
    out = toy.root / "out"
    out.mkdir()
    hooks, roots = Accountant(whole), [toy.models, BUNDLED]
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # what other tests left is not looked through
    with interruptible(hooks):
        folders = Folders(toy.data, None, roots, toy.root / "cache", out)
        run = prepared(config, find_base_model("toy", roots), folders, hooks, torch.device("cpu"))
        hooks.state = run.loop.state
        assert run.loop.run() is None
    return hooks.most
