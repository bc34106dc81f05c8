"""Going on from a checkpoint, after checking that it belongs to this run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from difftune_core.checkpoint.manifest import MODEL, RESUME, newest_whole
from difftune_core.hooks import TaskError
from difftune_core.train.state import History, TrainState


def resume(
    state: TrainState[Any], checkpoints: Path, *, identity: dict[str, Any], envelope: dict[str, Any]
) -> list[str] | None:
    """Load the newest whole checkpoint into `state`.

    Returns:
        None where there is none; else the names of what differs in the envelope: empty means that the run goes on
        exactly as if it had never stopped.

    Raises:
        TaskError: `checkpoint_mismatch` naming the fields, where it belongs to another run.
    """
    found = newest_whole(checkpoints)
    if found is None:
        return None
    folder, manifest = found
    differing = _differing(identity, manifest.identity)
    if differing:
        raise TaskError("checkpoint_mismatch", f"{folder.name} belongs to another run: {', '.join(differing)} differ")
    state.step = manifest.step
    state.target_images = manifest.target_images
    curves = {name: [(int(s), float(v)) for s, v in points] for name, points in manifest.history["curves"].items()}
    state.history = History(curves, manifest.history["evaluations"])
    state.load_resume_tensors(load_file(folder / RESUME), load_file(folder / MODEL))
    return _differing(envelope, manifest.envelope)


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
