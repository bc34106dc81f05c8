"""How steps are carried out on the device that a run has: what of it changes results, if only by rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from difftune_core.config.run import ResourcesConfig
from difftune_core.runtime.precision import FP32, Precision, precision_on


@dataclass(frozen=True)
class Execution:
    """How a process carries out its share of a step; by default as a whole and in float32."""

    precision: Precision = FP32
    micro_batch: int | None = None
    """Images that go through the network at once; None for all."""
    optimizer_state: Literal["fp32", "8bit"] = "fp32"
    average_on_host: bool = False
    compiled: bool = False
    """Whether blocks are compiled."""

    def parts(self, size: int) -> Iterator[slice]:
        """The parts of `size` slots that go through the network one after the other; only the last may be smaller."""
        count = self.micro_batch or size
        return (slice(start, min(start + count, size)) for start in range(0, size, count))

    def envelope(self, share: int) -> dict[str, Any]:
        """Return what of the execution must be equal for a resume to be exact; nothing for what earlier versions did.

        Args:
            share: slots of a step that are a process's.
        """
        told: dict[str, Any] = {}
        told |= self.precision.told()
        if self.micro_batch is not None and self.micro_batch < share:
            told["micro_batch"] = self.micro_batch
        if self.optimizer_state != "fp32":
            told["optimizer_state"] = self.optimizer_state
        if self.compiled:
            told["compiled"] = True
        return told


def execution_of(resources: ResourcesConfig, device: torch.device) -> Execution:
    """Return what a run's `resources` come to on its device.

    Raises:
        TaskError: `precision_unavailable`.
    """
    micro_batch = None if resources.micro_batch == "auto" else resources.micro_batch
    return Execution(
        precision_on(device, resources.precision),
        micro_batch,
        resources.optimizer_state,
        average_on_host=resources.average_on == "host",
    )
