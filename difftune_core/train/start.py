"""How a run begins: what it must share with the checkpoint that it goes on from, and going on from it."""

from __future__ import annotations

import platform
from typing import Any

import torch

from difftune_core.checkpoint.load import resume
from difftune_core.config import TransferConfig, config_digest
from difftune_core.hooks import LogEvent, MetricsEvent, ResumeEvent
from difftune_core.models.registry import BaseModel
from difftune_core.train.loop import Loop
from difftune_core.train.report import figures_event

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
    """The device's name, or the CPU's family as the kernels choose their code by it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
