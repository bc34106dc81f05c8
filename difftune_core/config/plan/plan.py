"""A job's plan: what it will need and take, in one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from difftune_core.config.card import BaseModelCard
from difftune_core.config.course import as_stored
from difftune_core.config.plan.choices import Choice, choices_of
from difftune_core.config.plan.circumstances import RetentionState
from difftune_core.config.plan.fitting import Job
from difftune_core.config.plan.memory import Parts, memory_of, most, peak, retention_images
from difftune_core.config.plan.seconds import seconds_of
from difftune_core.config.plan.sizes import NetworkSize
from difftune_core.config.plan.storage import (
    checkpoints_of,
    disk_parts,
    kept_of,
    resume_bytes,
    store_parts,
    weights_bytes,
)
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.transfer import TransferConfig


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PlannedDevice(_Part):
    """What the job is planned for: of the workers that looked for work lately, the one with the most memory."""

    name: str
    """Name of the GPU; `cpu` where the worker has none."""
    memory_bytes: int | None
    """Memory of the GPU, or of the machine; null where the worker does not tell."""


class MemoryPlan(_Part):
    """Memory in bytes."""

    parts: dict[str, int]
    """The most of each part; not all of them are there at once."""
    phases: dict[str, int]
    """The most that is there in a phase."""
    peak_bytes: int
    peak_phase: str | None


class StoragePlan(_Part):
    """Bytes in the store and on the disk of the node."""

    checkpoint_bytes: int
    """Size of a checkpoint, with what a resume needs."""
    checkpoints: int | None
    """How many checkpoints will be made; null while the number of steps is not known."""
    checkpoints_kept: int | None
    """How many checkpoints stay in the store in the end, the best one apart."""
    store: dict[str, int] | None
    """What is in the store in the end, by part; null while the number of steps is not known."""
    store_bytes: int | None
    disk: dict[str, int]
    """What the node needs at most, by part; caches are shared with other jobs."""
    disk_bytes: int


class RetentionPlan(_Part):
    """The images of the base model to retain with."""

    state: RetentionState
    """`not_used`; `made` and `being_made` of one that is named; `cached`: a job of yours with the same settings has
    run, and its node has it unless it needed the room; `to_be_made`."""
    digest: str | None
    images: int | None
    num_inference_steps: int | None
    image_steps: int
    """What making the images costs: images by denoising steps; 0 where they are there."""


class Plan(_Part):
    """What a job needs and takes. Bytes and seconds are predictions."""

    object: Literal["fine_tuning.plan"] = "fine_tuning.plan"
    config: dict[str, Any]
    """The resolved config, as it would be stored."""
    confidence: Literal["anatomy", "parameters"]
    """`anatomy`: of the network's shape, within 15 % of what is measured. `parameters`: of its number of parameters
    alone, without activations and sampling: memory is at least what is said."""
    parameters: int
    trained_parameters: int
    device: PlannedDevice | None
    """Device of the plan; null where no worker is known: the plan then is one for a CPU."""
    fits: bool | None
    """Whether the job fits the device; null where that is not known."""
    device_memory: MemoryPlan | None
    """Memory of the GPU; null without one."""
    host_memory: MemoryPlan
    storage: StoragePlan
    seconds: dict[str, float | None]
    """Seconds by phase; null where no past job of yours tells how fast it is."""
    seconds_known_from: int
    """Past jobs of yours on this base model and kind of device that rates are taken from."""
    retention_set: RetentionPlan
    choices: list[Choice]
    """What was left open, and why it became what it is."""
    notes: list[str]


def plan_of(job: Job, given: TransferConfig, card: BaseModelCard, retention_digest: str | None) -> Plan:
    """Make the plan of a job.

    Args:
        job: resolved.
        given: its config as stated.
        card: of the base model.
        retention_digest: of the images that it retains with.
    """
    size, known = job.sizer(job.config), job.known
    memory = memory_of(job.config, size, job.image_size, known)
    rates = known.rates
    return Plan(
        config=as_stored(job.config),
        confidence="anatomy" if size.is_known else "parameters",
        parameters=size.parameters,
        trained_parameters=size.trained,
        device=None if known.device is None else PlannedDevice.model_validate(vars(known.device)),
        fits=job.fits(),
        device_memory=_memory(memory.device) if memory.device else None,
        host_memory=_memory(memory.host),
        storage=_storage(job, size),
        seconds=seconds_of(job.config, known),
        seconds_known_from=0 if rates is None else rates.jobs,
        retention_set=_retention(job, retention_digest),
        choices=choices_of(given, job.config, card, known),
        notes=_notes(job, size),
    )


def _memory(phases: Mapping[str, Sequence[Parts]]) -> MemoryPlan:
    parts: Parts = {}
    for moments in phases.values():
        for moment in moments:
            parts |= {name: max(nbytes, parts.get(name, 0)) for name, nbytes in moment.items()}
    phase, nbytes = peak(phases)
    sums = {name: most(moments) for name, moments in phases.items()}
    return MemoryPlan(parts=parts, phases=sums, peak_bytes=nbytes, peak_phase=phase)


def _storage(job: Job, size: NetworkSize) -> StoragePlan:
    store = store_parts(job.config, size)
    disk = disk_parts(job.config, size, job.image_size, job.known)
    return StoragePlan(
        checkpoint_bytes=weights_bytes(size) + resume_bytes(size),
        checkpoints=checkpoints_of(job.config),
        checkpoints_kept=kept_of(job.config),
        store=store,
        store_bytes=None if store is None else sum(store.values()),
        disk=disk,
        disk_bytes=sum(disk.values()),
    )


def _retention(job: Job, digest: str | None) -> RetentionPlan:
    images, state = retention_images(job.config), job.known.retention
    stated = job.config.method.retention_set
    steps = stated.num_inference_steps if isinstance(stated, RetentionSetConfig) else None
    cost = images * steps if state == "to_be_made" and images and steps else 0
    return RetentionPlan(state=state, digest=digest, images=images, num_inference_steps=steps, image_steps=cost)


def _notes(job: Job, size: NetworkSize) -> list[str]:
    known, found = job.known, []
    if known.device is None:
        found.append("No worker has looked for work lately: whether the job fits is not known.")
    elif known.device.memory_bytes is None:
        found.append("The workers do not tell how much memory they have: whether the job fits is not known.")
    if not size.is_known:
        found.append(
            "The card of the base model has no anatomy: memory is planned by the number of its parameters, without "
            "activations and sampling. Import the model anew for a whole plan."
        )
    if known.num_images is None:
        found.append("The training images are not counted yet: caches are planned without them.")
    if known.rates is None:
        found.append(
            "No job of yours on this base model and kind of device has ended: how long it takes is not known. "
            "`difftune plan --probe` takes a few steps to tell."
        )
    elif known.rates.of_probes:
        found.append("Seconds are by a probe of a few steps: of drawing and caching, at most so many.")
    return found
