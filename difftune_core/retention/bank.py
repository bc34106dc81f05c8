"""The retention set: images sampled from the base model before tuning (the paper's memory bank, App. B.2).

Made once per (base model, settings) and shared by every job that may use that model. Kept as images, as the paper does,
so that any method and any evaluation can use it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from difftune_core.config.retention import RetentionSetConfig, RetentionSetInfo, retention_digest
from difftune_core.files import build_once, whole_folder_digest
from difftune_core.hooks import TaskError
from difftune_core.retention.sample import ALONE, Share, Source, sample_images
from difftune_core.runtime.caches import place_of
from difftune_core.runtime.precision import FP32, Precision
from difftune_core.runtime.tensors import save_tensors

_FILE = "images.safetensors"
_METADATA = "difftune"  # one key only: safetensors writes metadata in no fixed order
_FIELD = "method.diff_tuning.hyperparameters.retention_set"


@dataclass(frozen=True)
class RetentionSet:
    """Images of the base model and the labels they were sampled with."""

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int[Tensor, " n"]
    digest: str
    """Identifies base model and settings."""


def retention_set(
    base: Source,
    config: RetentionSetConfig,
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = FP32,
    progress: Callable[[int], None] | None = None,
    drawing: Callable[[Path], AbstractContextManager[Share]] = lambda _: nullcontext(ALONE),
) -> RetentionSet:
    """The retention set of these settings, sampled now if the cache has none.

    A process that was killed while it sampled has left its chunks: the next one goes on with them. `drawing` starts the
    processes that draw beside this one, if there are any, into a folder of chunks.
    """
    digest = retention_digest(base.card.digest, config)
    folder = retention_place(cache, base, digest, device, precision)
    chunks = folder.with_name(f".{folder.name}.chunks")

    def build(aside: Path) -> None:
        joined = aside / "joined"
        with drawing(chunks) as share, precision.autocast():
            made = sample_images(base, config, chunks, device=device, progress=progress, joined=joined, share=share)
        save_tensors(made, aside / _FILE)
        joined.unlink()

    tensors = load_file(build_once(folder, build) / _FILE)
    shutil.rmtree(chunks, ignore_errors=True)
    return RetentionSet(tensors["images"].numpy(), tensors["labels"], digest)


def retention_place(
    cache: Path, base: Source, digest: str, device: torch.device | str = "cpu", precision: Precision = FP32
) -> Path:
    """The folder in which the set that `digest` names is kept once it is sampled."""
    inputs = {
        "digest": digest,
        "tokenizer": whole_folder_digest(base.folder / "tokenizer"),  # the base model's digest passes over some files
        "device": torch.device(device).type,
        **precision.told(),
    }
    return place_of(cache, "retention", inputs)


def save_retention_set(found: RetentionSet, info: RetentionSetInfo, path: Path) -> None:
    """Write one file that says in its header what it is; equal sets give equal bytes."""
    tensors = {"images": torch.from_numpy(found.images), "labels": found.labels}
    save_tensors(tensors, path, {_METADATA: info.model_dump_json()})


def load_retention_set(path: Path, base: Source, field: str = _FIELD) -> RetentionSet:
    """The retention set in a file that `save_retention_set` wrote, for a run that tunes `base`; `field` is named in
    errors.

    Raises:
        TaskError: `retention_set_mismatch`, it is another base model's or of another image size;
            `retention_set_damaged`, the file is none.
    """
    info = read_info(path, field)
    if info.base_digest != base.card.digest:
        message = (
            f"the retention set {info.digest} is of the base model {info.model} with digest {info.base_digest}; "
            f"{base.card.id} has digest {base.card.digest}"
        )
        raise TaskError("retention_set_mismatch", message, field)
    tensors = load_file(path)
    size, found = base.card.image_size, tuple(tensors["images"].shape[1:])
    if found != (size, size, 3):
        message = f"the images of the retention set have shape {found}, those of {base.card.id} {(size, size, 3)}"
        raise TaskError("retention_set_mismatch", message, field)
    return RetentionSet(tensors["images"].numpy(), tensors["labels"], info.digest)


def read_info(path: Path, field: str = _FIELD) -> RetentionSetInfo:
    """Read what the file says of itself.

    Raises:
        TaskError: `retention_set_damaged`, it is no retention set.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if {"images", "labels"} <= set(file.keys()):
                return RetentionSetInfo.model_validate_json((file.metadata() or {}).get(_METADATA, ""))
    except (SafetensorError, ValidationError):
        pass
    raise TaskError("retention_set_damaged", f"{path.name} is no retention set", field)
