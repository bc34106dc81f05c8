"""Writing a checkpoint: aside, hashed, synced, then renamed; the manifest last."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from difftune_core.adapters.merge import merged
from difftune_core.checkpoint.manifest import ADAPTER, MANIFEST, MODEL, RESUME, Manifest, checkpoint_name, whole
from difftune_core.checkpoint.state import TrainState
from difftune_core.config.adapter import Adapter
from difftune_core.files import folder_aside, sha256_file
from difftune_core.hooks import CheckpointEvent, FileInfo
from difftune_core.networks.state import CONFIG
from difftune_core.runtime.tensors import save_tensors

WriteConfig = Callable[[Any, Path, Adapter | None], None]
"""From a model, the folder of its weights and the adapter that is still inside to `config.json` there."""


def save_checkpoint(
    state: TrainState[Any],
    checkpoints: Path,
    *,
    identity: dict[str, Any],
    envelope: dict[str, Any],
    write_config: WriteConfig,
    is_last: bool = False,
) -> CheckpointEvent:
    """Save `state` under its step; a whole checkpoint of that step is left as it is.

    `write_config` writes `config.json` beside the weights, as the network's family does.
    """
    final = checkpoints / checkpoint_name(state.step)
    if whole(final) is None:
        with folder_aside(final) as folder:
            _write(state, folder, identity, envelope, write_config)
            if final.exists():  # a torn one of the same step
                final.rename(final.with_name(f".torn-{final.name}"))
    return checkpoint_event(final, is_last=is_last)


def checkpoint_event(folder: Path, *, is_last: bool = False) -> CheckpointEvent:
    """The event that announces a whole checkpoint folder."""
    manifest = whole(folder)
    assert manifest is not None, f"{folder.name} is not whole"
    files = [*manifest.files, file_info(folder / MANIFEST, folder)]
    return CheckpointEvent(
        step=manifest.step, name=folder.name, files=files, is_last=is_last, target_images=manifest.target_images
    )


def file_info(path: Path, root: Path) -> FileInfo:
    """Size and digest of a file, path relative to `root`."""
    return FileInfo(path=path.relative_to(root).as_posix(), bytes=path.stat().st_size, sha256=sha256_file(path))


def _write(
    state: TrainState[Any],
    folder: Path,
    identity: dict[str, Any],
    envelope: dict[str, Any],
    write_config: WriteConfig,
) -> None:
    # One key only: safetensors writes metadata in no fixed order, and equal runs shall give equal bytes.
    metadata = {"difftune": json.dumps({"step": state.step, "base_model": identity["base_model"]})}
    delivered = merged(state.average) if state.adapter.mergeable else state.average
    save_tensors(delivered.state_dict(), folder / MODEL, metadata)
    save_tensors(state.resume_tensors(), folder / RESUME)
    if not state.is_full:
        save_tensors(state.average_trainable(), folder / ADAPTER, metadata)
    write_config(state.average, folder, None if state.adapter.mergeable else state.adapter)
    names = (MODEL, RESUME, CONFIG) if state.is_full else (MODEL, RESUME, CONFIG, ADAPTER)
    manifest = Manifest(
        step=state.step,
        target_images=state.target_images,
        identity=identity,
        envelope=envelope,
        history=state.history.dumped(),
        files=[file_info(folder / name, folder) for name in names],
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
