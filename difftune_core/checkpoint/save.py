"""Writing a checkpoint: aside, hashed, synced, then renamed; the manifest last."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from difftune_core.adapters.merge import merged
from difftune_core.checkpoint.manifest import (
    ADAPTER,
    MANIFEST,
    MODEL,
    RESUME,
    Manifest,
    announced,
    checkpoint_name,
    whole,
)
from difftune_core.checkpoint.state import TrainState
from difftune_core.config.adapter import Adapter
from difftune_core.files import file_info, folder_aside
from difftune_core.hooks import CheckpointEvent, FileInfo
from difftune_core.networks.state import CONFIG
from difftune_core.runtime.tensors import save_tensors

WriteConfig = Callable[[Any, Path, Adapter | None], None]
"""Writes `config.json`: takes a model, the folder of its weights and the adapter that is still inside."""


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
    manifest = whole(final)
    if manifest is None:
        with folder_aside(final) as folder:
            manifest = _write(state, folder, identity, envelope, write_config)
            if final.exists():  # a torn one of the same step
                final.rename(final.with_name(f".torn-{final.name}"))
    return announced(final, manifest, is_last=is_last)


def _write(
    state: TrainState[Any],
    folder: Path,
    identity: dict[str, Any],
    envelope: dict[str, Any],
    write_config: WriteConfig,
) -> Manifest:
    """Fill `folder`. A file is hashed by a thread of its own while the next one is written, and not read again."""
    # One key only: safetensors writes metadata in no fixed order, and equal runs shall give equal bytes.
    metadata = {"difftune": json.dumps({"step": state.step, "base_model": identity["base_model"]})}
    files: list[Future[FileInfo]] = []
    with ThreadPoolExecutor(1, "hashing") as hashing:
        delivered = merged(state.average) if state.adapter.mergeable else state.average
        weights = {name: tensor.float() for name, tensor in delivered.state_dict().items()}
        save_tensors(weights, folder / MODEL, metadata)
        files.append(hashing.submit(file_info, folder / MODEL, folder))
        save_tensors(state.resume_tensors(), folder / RESUME)
        files.append(hashing.submit(file_info, folder / RESUME, folder))
        write_config(state.average, folder, None if state.adapter.mergeable else state.adapter)
        files.append(hashing.submit(file_info, folder / CONFIG, folder))
        if not state.is_full:
            save_tensors(state.average_trainable(), folder / ADAPTER, metadata)
            files.append(hashing.submit(file_info, folder / ADAPTER, folder))
    manifest = Manifest(
        step=state.step,
        target_images=state.target_images,
        identity=identity,
        envelope=envelope,
        history=state.history.dumped(),
        files=[file.result() for file in files],
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return manifest
