"""Going on from a checkpoint, after checking that it belongs to this run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from difftune_core.checkpoint.manifest import MODEL, RESUME, newest_first
from difftune_core.checkpoint.state import History, TrainState
from difftune_core.hooks import TaskError


@dataclass(frozen=True)
class Resumed:
    """How a run goes on."""

    changed: list[str] | None
    """What differs in the envelope: empty means that the run goes on exactly as if it had never stopped. None where
    there was no checkpoint to go on from."""
    damaged: list[str]
    """Newer checkpoints that are not whole and were passed over."""
    envelope: dict[str, Any] = field(default_factory=dict)
    """The envelope of the checkpoint."""


def resume(state: TrainState[Any], checkpoints: Path, *, identity: dict[str, Any], envelope: dict[str, Any]) -> Resumed:
    """Load the newest whole checkpoint into `state`.

    Raises:
        TaskError: `checkpoint_mismatch` naming the fields, where it belongs to another run.
    """
    seen = newest_first(checkpoints)
    damaged = [folder.name for folder, manifest in seen if manifest is None]
    folder, manifest = seen[-1] if seen else (checkpoints, None)
    if manifest is None:
        return Resumed(None, damaged)
    differing = _differing(identity, manifest.identity)
    if differing:
        raise TaskError("checkpoint_mismatch", f"{folder.name} belongs to another run: {', '.join(differing)} differ")
    state.step = manifest.step
    state.target_images = manifest.target_images
    state.history = History.of(manifest.history)
    state.load_resume_tensors(load_file(folder / RESUME), load_file(folder / MODEL))
    return Resumed(_differing(envelope, manifest.envelope), damaged, manifest.envelope)


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
