"""Sampling the images of a retention set, chunk by chunk: what a killed process has finished is not sampled again.

Each image has its own random stream and each chunk is one batch of the sampler, so a chunk does not depend on others.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from difftune_core.config.card import BaseModelCard
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.files import write_durably
from difftune_core.hooks import TaskError
from difftune_core.interruption import Progress, after, interruption_point

_DIGEST = "sha256"  # of a chunk's images, in its header
_POLL_S = 0.05
CHUNK = 128  # the sampler's batch: other batches would round differently, and every cached set would change
Drawer = Callable[[Int[Tensor, " k"], int, Progress], UInt8[np.ndarray, "k s s 3"]]
"""Draws images of labels; takes the first image's number and a listener too."""


@runtime_checkable  # the tests check arguments at run time
class Source(Protocol):
    """What a retention set needs of a base model, of whatever family."""

    @property
    def folder(self) -> Path:
        """The folder of the base model's files."""
        ...

    @property
    def card(self) -> BaseModelCard:
        """Card of the base model."""
        ...

    def drawer(self, config: RetentionSetConfig, device: torch.device | str) -> Drawer:
        """Load the model as a function that draws the images of a retention set."""
        ...


def retention_labels(config: RetentionSetConfig, num_classes: int) -> Int[Tensor, " n"]:
    """The class of each image, mixed evenly over the whole set.

    Raises:
        TaskError: `label_out_of_range`, the base model has fewer classes.
    """
    if config.class_distribution == "uniform":
        return torch.arange(config.num_images) % max(num_classes, 1)
    labels = [share.label for share in config.class_distribution]
    if labels[-1] >= num_classes:
        message = f"class_distribution: the base model has classes 0 to {num_classes - 1}, not {labels[-1]}"
        raise TaskError("label_out_of_range", message, "class_distribution")
    counts = _rounded([share.weight for share in config.class_distribution], config.num_images)
    placed = [((i + 0.5) / count, label) for label, count in zip(labels, counts, strict=True) for i in range(count)]
    return torch.tensor([label for _, label in sorted(placed)])


@dataclass(frozen=True)
class Share:
    """The chunks that are a process's where several draw."""

    rank: int = 0
    world: int = 1
    others_draw: Callable[[], bool] = lambda: False
    """Whether one of the others is still at work."""


ALONE = Share()
"""A share of the images that is all of them."""


def sample_images(
    base: Source,
    config: RetentionSetConfig,
    chunks: Path,
    *,
    device: torch.device | str,
    progress: Progress | None,
    joined: Path,
    share: Share = ALONE,
) -> dict[str, Tensor]:
    """`images` (n s s 3, uint8) and `labels` (n).

    Args:
        base: what is sampled.
        config: how.
        chunks: a folder that holds what is done, and is left as it is.
        device: where.
        progress: hears how many are done.
        joined: a new file, in which the images are mapped into memory: all of them never stand there.
        share: of this process; what the others leave undone it draws after them.

    Raises:
        TaskError: `label_out_of_range`.
    """
    labels = retention_labels(config, base.card.num_classes)
    size = base.card.image_size
    draw_chunks(base, config, chunks, device=device, progress=progress, share=share)
    while share.others_draw():
        interruption_point()
        time.sleep(_POLL_S)
    if share.world > 1:
        draw_chunks(base, config, chunks, device=device, progress=progress)
    shape = (len(labels), size, size, 3)
    images = torch.from_file(str(joined), shared=True, size=math.prod(shape), dtype=torch.uint8).view(shape)
    for start in range(0, len(labels), CHUNK):
        images[start : start + CHUNK] = load_file(chunks / _name(start))["images"]
    return {"images": images, "labels": labels}


def draw_chunks(
    base: Source,
    config: RetentionSetConfig,
    chunks: Path,
    *,
    device: torch.device | str,
    progress: Progress | None = None,
    share: Share = ALONE,
) -> None:
    """Draw the chunks of a process that are not there, each into a file of its own.

    Raises:
        TaskError: `label_out_of_range`.
    """
    labels = retention_labels(config, base.card.num_classes)
    size = base.card.image_size
    chunks.mkdir(parents=True, exist_ok=True)
    draw: Drawer | None = None
    for start in range(share.rank * CHUNK, len(labels), share.world * CHUNK):
        part = labels[start : start + CHUNK]
        if _read_chunk(chunks / _name(start), (len(part), size, size, 3)) is None:
            draw = draw or base.drawer(config, device)
            images = torch.from_numpy(draw(part, start, _inside(progress, start, len(part))))
            write_durably(chunks / _name(start), save({"images": images}, {_DIGEST: _digest(images)}))
        if progress is not None:
            progress(start + len(part))


def _inside(progress: Progress | None, start: int, count: int) -> Progress:
    """A listener to the sampling of a chunk, which is not done before it is written."""
    return after(start, progress if progress is None else lambda done: progress(min(done, start + count - 1)))


def _name(start: int) -> str:
    return f"images-{start:08d}.safetensors"


def _read_chunk(path: Path, shape: tuple[int, ...]) -> UInt8[Tensor, "n s s 3"] | None:
    """The images of a chunk; None where it is not there, torn, or not as it was written."""
    try:
        with safe_open(path, framework="pt") as file:
            images: Tensor = file.get_tensor("images")
            written = (file.metadata() or {}).get(_DIGEST)
    except (OSError, SafetensorError):
        return None
    return images if tuple(images.shape) == shape and _digest(images) == written else None


def _digest(images: UInt8[Tensor, "n s s 3"]) -> str:
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


def _rounded(weights: list[float], total: int) -> list[int]:
    """Whole shares of `total`: rounded down, the rest to the largest remainders."""
    exact = [weight / sum(weights) * total for weight in weights]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts
