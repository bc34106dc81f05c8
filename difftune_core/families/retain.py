"""Making a retention set on its own, as one file: `python -m difftune_core retain`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from difftune_core.config.dataset import DatasetOptions
from difftune_core.config.retention import (
    RetentionSetInfo,
    RetentionSetRequest,
    retention_fields,
    uploaded_digest,
)
from difftune_core.config.run import ResourcesConfig
from difftune_core.data.dataset import ImageFolder, open_dataset
from difftune_core.data.item_files import ItemFiles
from difftune_core.data.pixels import BLOCK, Pixels, parts_of
from difftune_core.families.base_model import BaseModel
from difftune_core.families.table import find_base_model
from difftune_core.files import file_info
from difftune_core.hooks import ArtifactEvent, Hooks, OutcomeEvent, PhaseEvent, TaskError
from difftune_core.interruption import Stopped, interruptible, progress_of
from difftune_core.retention.bank import RetentionSet, retention_set, save_retention_set
from difftune_core.runtime.blocks import keep_compiled_in
from difftune_core.runtime.compiled import compiles, place_of_compiled
from difftune_core.runtime.precision import precision_on

FILE = "retention.safetensors"


def retain(
    request: RetentionSetRequest,
    *,
    data: Path | None,
    options: DatasetOptions | None = None,
    models: list[Path],
    cache: Path,
    out: Path,
    hooks: Hooks,
) -> OutcomeEvent:
    """Sample the set that is asked for, or take the images of the archive `data`; leaves one file in `out`.

    `options` are what the owner of `data` says of it.

    Raises:
        TaskError: `model_not_found`, `model_mismatch`, `label_out_of_range`, or the data set's own.
    """
    hooks.emit(PhaseEvent(phase="loading_model"))
    base = find_base_model(request.model, models)
    if request.base_digest not in {None, base.card.digest}:
        message = f"{request.model} has digest {base.card.digest} here, not {request.base_digest}"
        raise TaskError("model_mismatch", message, "model")
    hooks.emit(PhaseEvent(phase="building_retention_set"))
    try:
        with interruptible(hooks):
            found = _made(base, request, None if data is None else open_dataset(data, options), cache, hooks)
    except Stopped:
        return OutcomeEvent(code="paused" if hooks.stop_requested() == "pause" else "stopped")
    info = RetentionSetInfo(
        digest=found.digest,
        model=base.card.id,
        base_digest=base.card.digest,
        settings=retention_fields(request) if data is None else None,
    )
    save_retention_set(found, info, out / FILE)
    hooks.emit(ArtifactEvent(kind="retention_set", file=file_info(out / FILE, out)))
    return OutcomeEvent(code="succeeded")


def _made(
    base: BaseModel, request: RetentionSetRequest, dataset: ImageFolder | None, cache: Path, hooks: Hooks
) -> RetentionSet:
    if dataset is None:
        return _sampled(base, request, cache, hooks)
    cache.mkdir(parents=True, exist_ok=True)
    return _uploaded(base, request, dataset, cache, hooks)


def _sampled(base: BaseModel, request: RetentionSetRequest, cache: Path, hooks: Hooks) -> RetentionSet:
    torch.set_num_threads(request.num_threads)
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.use_deterministic_algorithms(mode=True, warn_only=True)  # as the trainer, which shares the cache
    progress = progress_of(hooks, "building_retention_set", request.num_images)
    device = torch.device("cuda" if on_gpu else "cpu")
    compiled = compiles(ResourcesConfig(), device)
    precision = replace(precision_on(device, "auto"), compiled=compiled)  # as of a job that does not say otherwise
    if compiled:
        keep_compiled_in(place_of_compiled(cache))
    return retention_set(
        replace(base, compiled=compiled), request, cache, device=device, precision=precision, progress=progress
    )


def _uploaded(
    base: BaseModel, request: RetentionSetRequest, dataset: ImageFolder, cache: Path, hooks: Hooks
) -> RetentionSet:
    """The labels of uploaded images are another model's: all get the null label."""
    progress = progress_of(hooks, "building_retention_set", len(dataset))
    pixels = Pixels(ItemFiles(dataset, cache), "image", base.card.image_size)
    with tempfile.TemporaryFile(dir=cache) as file:  # mapped: the images need not stand in memory
        images = np.memmap(file, np.uint8, "w+", shape=pixels.shape)
        done = 0
        for part in parts_of(pixels, BLOCK):
            progress(done)
            images[done : done + len(part)] = part
            done += len(part)
        progress(done)
    labels = torch.full((len(images),), base.card.num_classes)
    return RetentionSet(images, labels, uploaded_digest(base.card.digest, request.images_sha256 or dataset.digest))
