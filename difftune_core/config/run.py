"""How a run is carried out. What stands here changes nothing of what is computed but for rounding: a run may go on from
the checkpoint of one that differs in it alone.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from difftune_core.config.frozen import Frozen


class CheckpointConfig(Frozen):
    """Which checkpoints stay in the store."""

    keep_last: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The newest so many; null keeps all. Beyond them stay the best, the job's result, what the job may go on from, and
    what is looked at by an analysis or was downloaded in the last day."""


class ResourcesConfig(Frozen):
    """What a job trains on."""

    gpus: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs of one machine, with a process each; on a machine without GPUs, processes on its CPU. `batch_size` stays the
    images of a step in all, split evenly, so it must be a multiple. Another number rounds sums otherwise."""
