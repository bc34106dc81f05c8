"""How a run is carried out. What stands here changes nothing of what is computed but for rounding: a run may go on from
the checkpoint of one that differs in it alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from difftune_core.config.frozen import Frozen

Switch = Literal["auto", "on", "off"]
PrecisionName = Literal["fp32", "bf16", "fp16"]


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
    precision: Literal["auto"] | PrecisionName = "auto"
    """What networks compute in while they are trained; weights, their average and the optimizer's moments are float32.
    `bf16` and `fp16` are autocast, `fp16` with its gradients scaled; `auto` is `bf16` on GPUs that have it, else
    `fp32`."""
    micro_batch: Literal["auto"] | Annotated[int, Field(ge=1, le=65_536)] = "auto"
    """Images that a GPU takes through the network at once: gradients of the parts of a step are added up, so that the
    step is that of the whole batch up to rounding, with the memory of a part. It need not divide the batch: the last
    part is smaller. `auto` takes the whole batch, or halves it until it fits the largest worker that is known."""
    activation_checkpointing: Switch = "auto"
    """Whether blocks are computed again in the backward pass instead of being remembered: about a quarter slower, with
    the activations of one block. `auto` is off, or on where a job would not fit the largest worker without."""
    compile: Switch = "auto"
    """Whether the repeated blocks are compiled (`torch.compile`), for GPUs a third faster or more after a minute. Where
    that fails the run goes on without and says so. `auto` is on on GPUs."""
    optimizer_state: Literal["fp32", "8bit"] = "fp32"
    """AdamW's moments: in float32, or in blocks of 8 bits by torchao (`pip install 'difftune[optim8bit]'`), with a
    quarter of the memory."""
    average_on: Literal["device", "host"] = "device"
    """Where the average of the weights is between evaluations; on the host it takes no memory of a GPU. With an adapter
    it is small and stays on the device."""
