"""What a plan is made for: a device, a data set, and what past runs took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

RetentionState = Literal["not_used", "made", "being_made", "cached", "to_be_made"]
"""State of the images to retain with: none are used; they are in the store, or on their way there; a job that used the
same has run, so that its node has them unless it needed the room; or they will be sampled first."""


@dataclass(frozen=True)
class Device:
    """What a worker trains on."""

    name: str
    """A GPU's, or `cpu`."""
    memory_bytes: int | None
    """Memory of the GPU, or of the machine where there is none."""

    @property
    def is_gpu(self) -> bool:
        """Whether the device has memory of its own."""
        return self.name != "cpu"

    @property
    def has_bf16(self) -> bool:
        """Whether `auto` is bf16 there: GPUs that lack it are none that a plan could know by their names."""
        return self.is_gpu


@dataclass(frozen=True)
class Rates:
    """What past runs of the same base model on the same kind of device took."""

    jobs: int
    """Number of the runs."""
    seconds_a_unit: Mapping[str, float]
    """Seconds of the slowest job by phase, in the units of `difftune_core.config.plan.seconds`, since what was found
    in a cache took no time."""
    of_probes: bool = False
    """Whether the rates are those of probes, whose few images leave batches half empty."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What is known where a plan is made; None for what is not."""

    device: Device | None = None
    num_images: int | None = None
    """Number of the training images."""
    num_classes: int | None = None
    """Number of the target's classes."""
    extractor_parameters: int | None = None
    retention: RetentionState = "to_be_made"
    rates: Rates | None = None
