"""How a run begins: what it must share with the checkpoint that it goes on from, and going on from it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from difftune_core.checkpoint.load import resume
from difftune_core.config import TransferConfig, config_digest
from difftune_core.files import sha256_json
from difftune_core.hooks import LogEvent, MetricsEvent, ResumeEvent
from difftune_core.models.registry import BaseModel
from difftune_core.train.loop import Loop
from difftune_core.train.report import figures_event

_CPUINFO = Path("/proc/cpuinfo")
_CPU_FIELDS = (
    *("vendor_id", "cpu family", "model", "stepping", "flags"),  # x86
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),  # ARM
)
_TOLD_AGAIN = 1000  # points of the curves; listeners pass over what they know


def take_up(loop: Loop[Any]) -> None:
    """Go on from the newest whole checkpoint, if there is one, and tell what it knows."""
    state, hooks = loop.state, loop.hooks
    resumed = resume(state, loop.checkpoints, identity=loop.identity, envelope=loop.envelope)
    if resumed.damaged:
        message = f"damaged and passed over: {', '.join(resumed.damaged)}"
        hooks.emit(LogEvent(level="warn", message=message))
    if resumed.changed is None:
        return
    for step, values in state.history.newest(_TOLD_AGAIN).items():  # whoever listened before may have died unheard
        hooks.emit(MetricsEvent(step=step, values=values))
    for entry in state.history.evaluations:
        hooks.emit(figures_event(entry))
    loop.tell_best()
    hooks.emit(ResumeEvent(step=state.step, changed=resumed.changed))


def identity_of(config: TransferConfig, base: BaseModel, training_data: str) -> dict[str, Any]:
    """What must be equal for a resume at all."""
    return {"base_model": base.card.digest, "config": config_digest(config), "training_data": training_data}


def envelope_of(config: TransferConfig, caches: dict[str, str | None]) -> dict[str, Any]:
    """What must be equal for a resume to be exact; `caches` are the digests of what is trained on."""
    return {
        "num_threads": config.num_threads,
        "torch": torch.__version__,
        "processor": _processor(),
        "processes": config.resources.gpus if config.resources.gpus > 1 else None,  # as before there were several
        **caches,
    }


def _processor() -> str:
    """The device's name, or the CPU's model and features, which decide what code the kernels use and how it rounds."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_cpu_model()}"


def _cpu_model() -> str:
    """A digest of what Linux says of the first CPU; elsewhere what Python knows."""
    if not _CPUINFO.exists():
        return platform.processor()
    lines = _CPUINFO.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return sha256_json({name: fields.get(name) for name in _CPU_FIELDS})[:12]
