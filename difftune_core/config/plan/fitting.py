"""Whether a job fits a device, what `auto` becomes where it does not, and which settings would fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from difftune_core.config.plan.circumstances import Circumstances, Device
from difftune_core.config.plan.memory import memory_of, micro_batch_of, peak
from difftune_core.config.plan.sizes import NetworkSize
from difftune_core.config.transfer import TransferConfig

TOLERANCE = 0.15
"""Share by which planned memory may exceed what is needed: a job is refused beyond this alone."""
Sizer = Callable[[TransferConfig], NetworkSize]


@dataclass(frozen=True)
class Job:
    """A job whose settings are tried."""

    config: TransferConfig
    """Config of the job, resolved."""
    sizer: Sizer
    """Sizes the network of a config."""
    image_size: int
    known: Circumstances

    @property
    def need(self) -> int:
        """Bytes of the device at the peak, or of the machine where there is no GPU."""
        memory = memory_of(self.config, self.sizer(self.config), self.image_size, self.known)
        return peak(memory.device or memory.host)[1]

    def fits(self, *, tolerance: float = 0.0) -> bool | None:
        """Return whether the job fits the device; None where the device's memory or the network is not known."""
        device = self.known.device
        if device is None or device.memory_bytes is None or not self.sizer(self.config).is_known:
            return None
        return self.need * (1 - tolerance) <= device.memory_bytes

    def having(self, **resources: Any) -> Job:
        """Return the same job with other `resources`."""
        changed = self.config.resources.model_copy(update=resources)
        return Job(self.config.model_copy(update={"resources": changed}), self.sizer, self.image_size, self.known)

    def tuning(self, adapter: Any) -> Job:
        """Return the same job with another adapter."""
        config = self.config.model_copy(update={"method": self.config.method.having(adapter=adapter)})
        return Job(config, self.sizer, self.image_size, self.known)


def largest_fitting(job: Job) -> Job | None:
    """Return the job with the most images at once, halved from those that it has, with which it fits; None for none."""
    count = micro_batch_of(job.config)
    while count >= 1:
        tried = job if count == micro_batch_of(job.config) else job.having(micro_batch=count)
        if tried.fits():
            return tried
        count //= 2
    return None


def fitted(job: Job) -> Job:
    """Return the job with what it left to `auto` changed as far as it must be to fit; as it is where that is no help.

    First fewer images at once, which costs little; then blocks that are computed again, which costs a quarter.
    """
    if job.fits() is not False:
        return job
    resources = job.config.resources
    tries = [job]
    if resources.activation_checkpointing == "auto":
        tries.append(job.having(activation_checkpointing="on"))
    for tried in tries:
        found = largest_fitting(tried) if resources.micro_batch == "auto" else tried
        if found is not None and found.fits():
            return found
    return job


def settings_that_fit(job: Job, adapters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return changes of a job that does not fit with which it would, by field, each as small as it can be.

    Args:
        job: that does not fit.
        adapters: those that its family has beside full tuning, with their defaults, by name.
    """
    found = [_with_images(tried, changes) for tried, changes in _tries(job, adapters)]
    return [changes for changes in found if changes]


def _tries(job: Job, adapters: Mapping[str, Any]) -> Iterator[tuple[Job, dict[str, Any]]]:
    again = {"activation_checkpointing": "on"}
    aside = {**again, "average_on": "host"}
    for changes in ({}, again, aside) if job.config.resources.activation_checkpointing != "on" else ({},):
        if "average_on" in changes and (job.known.device is None or not job.known.device.is_gpu):
            continue
        yield job.having(**changes), {f"resources.{name}": value for name, value in changes.items()}
    where = f"{job.config.method.where}.adapter"
    if job.config.method.hyperparameters.adapter.type == "full":
        for name, adapter in adapters.items():
            yield job.tuning(adapter), {where: {"type": name}}


def _with_images(job: Job, changes: dict[str, Any]) -> dict[str, Any] | None:
    """Return the changes, with fewer images at once if need be; None where the job does not fit with one."""
    found = largest_fitting(job)
    if found is None:
        return None
    count = micro_batch_of(found.config)
    return changes if count == micro_batch_of(job.config) else {**changes, "resources.micro_batch": count}


def best_device(devices: list[Device]) -> Device | None:
    """Return the device that a job is planned for: the one with the most memory; None where there is none."""
    return max(devices, key=lambda device: (device.is_gpu, device.memory_bytes or 0), default=None)
