"""How long a checkpoint keeps training from going on, beside a synchronous `torch.save` of the same state."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.blocks import Side, alternate
from benchmarks.harness.claims import Bar, Claim, Guard, share
from benchmarks.references.ours import OurRun, random_data
from benchmarks.references.random import random_dit
from difftune_core.checkpoint.load import resume
from difftune_core.checkpoint.save import save_checkpoint
from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.families.dit.files import write_dit_config
from difftune_core.networks.dit import PRESETS, DiT, DiTConfig

BAR = Bar(at_most=0.2)
_IDENTITY = {"base_model": "random"}


def measured(
    folder: Path,
    size: DiTConfig = PRESETS["DiT-S/2"],
    device: str = "cpu",
    name: str = "checkpoints",
    bar: Bar | None = BAR,
) -> list[Claim]:
    """Time both ways of saving; what was saved must load as what it was."""
    torch.set_num_threads(1)
    model = random_dit(size, torch.device(device))
    run = OurRun.of(model, random_data(size, torch.device(device), 8), batch_size=2, cache=folder)
    run.step()
    numbers = itertools.count()
    compared = alternate(
        Side("torch.save", lambda: _saved(run.state, folder / "state.pt")),
        Side("difftune", lambda: _ours(run.state, folder / f"ours-{next(numbers)}")),
        blocks=5,
        block_s=0.0,
    )
    nbytes = (folder / "state.pt").stat().st_size
    return [share(name, compared, bar=bar, guard=guarded(run, folder / "guard"), details={"bytes": nbytes})]


def _saved(state: TrainState[DiT], path: Path) -> None:
    """Save as public trainers do, down to the disk: what is in the system's memory alone is lost with the machine."""
    parts: dict[str, Any] = {"model": state.model, "ema": state.average, "opt": state.optimizer}
    with path.open("wb") as file:
        torch.save({name: part.state_dict() for name, part in parts.items()}, file)
        file.flush()
        os.fsync(file.fileno())


def _ours(state: TrainState[DiT], folder: Path) -> None:
    folder.mkdir()
    save_checkpoint(state, folder, identity=_IDENTITY, envelope={}, write_config=_written)
    shutil.rmtree(folder)


def _written(model: DiT, folder: Path, adapter: object) -> None:
    del adapter
    write_dit_config(folder, model.config)


def guarded(run: OurRun, folder: Path) -> Guard:
    """Save, load into a new state, and compare every tensor."""
    folder.mkdir()
    save_checkpoint(run.state, folder, identity=_IDENTITY, envelope={}, write_config=_written)
    with torch.device(run.state.average.pos_embed.device):
        fresh = new_state(DiT(run.state.model.config), run.config.method.hyperparameters)
    resume(fresh, folder, identity=_IDENTITY, envelope={})
    wanted, found = run.state.resume_tensors(), fresh.resume_tensors()
    equal = wanted.keys() == found.keys() and all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())
    return Guard("a state that is loaded from it is the same bit for bit", equal)
