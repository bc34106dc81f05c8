"""The retention set: images sampled from the base model before tuning (the paper's memory bank, App. B.2).

Made once per (base model, settings) and shared by every job that may use that model. Kept as images, as the paper does,
so that any method and any evaluation can use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from difftune_core.diffusion.sampler import Sampling, sample_latents
from difftune_core.files import build_once, sha256_json
from difftune_core.models.registry import BaseModel
from difftune_core.retention_config import RetentionSetConfig

_FORMAT = 1
_FILE = "images.safetensors"


@dataclass(frozen=True)
class RetentionSet:
    """Images of the base model and the labels they were sampled with."""

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int[Tensor, " n"]
    digest: str
    """Identifies base model and settings."""


def retention_digest(base: BaseModel, config: RetentionSetConfig) -> str:
    """Content address: equal for equal base model and settings."""
    return sha256_json({"format": _FORMAT, "base": base.card.digest, **config.model_dump()})


def retention_set(
    base: BaseModel,
    config: RetentionSetConfig,
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> RetentionSet:
    """The retention set of these settings, sampled now if the cache has none.

    Labels run over the base model's classes in equal shares.
    """
    digest = retention_digest(base, config)

    def build(folder: Path) -> None:
        model = base.load_dit(device).eval()
        labels = torch.arange(config.num_images) % max(base.card.num_classes, 1)
        sampling = Sampling(**config.model_dump(exclude={"num_images"}))
        latents = sample_latents(model, labels, sampling, progress=progress)
        images = base.load_autoencoder(device).decode(latents)
        save_file({"images": torch.from_numpy(images), "labels": labels}, folder / _FILE)

    tensors = load_file(build_once(cache / "retention" / digest, build) / _FILE)
    return RetentionSet(tensors["images"].numpy(), tensors["labels"], digest)
