"""How a run begins: what it must share with the checkpoint that it goes on from, and going on from it."""

from __future__ import annotations

from typing import Any

import torch

from difftune_core.checkpoint.load import resume
from difftune_core.config.transfer import TransferConfig, config_digest
from difftune_core.data.copies import Copies, count_copies
from difftune_core.data.decoded import Decoded
from difftune_core.families.preparation import Preparation
from difftune_core.hooks import Hooks, LogEvent, MetricsEvent, ResumeEvent
from difftune_core.runtime.caches import processor
from difftune_core.runtime.execution import Execution
from difftune_core.train.loop import Loop
from difftune_core.train.report import figures_event

_LATENTS = ("target_latents", "retention_latents")
_OTHER_IMAGES = "Up to step {step} this job was trained on latents of other images than its own, from the cache"
_TOLD_AGAIN = 1000  # points of the curves; listeners pass over what they know


def take_up(loop: Loop[Any]) -> None:
    """Go on from the newest whole checkpoint, if there is one, and tell what it knows."""
    state, hooks = loop.state, loop.hooks
    resumed = resume(state, loop.checkpoints, identity=loop.identity, envelope=loop.envelope)
    if resumed.damaged:
        message = f"damaged and passed over: {', '.join(resumed.damaged)}"
        hooks.emit(LogEvent(level="warn", message=message))
    if loop.samples is not None:
        loop.samples.take_up()
    if resumed.changed is None:
        return
    for step, values in state.history.newest(_TOLD_AGAIN).items():  # whoever listened before may have died unheard
        hooks.emit(MetricsEvent(step=step, values=values))
    for entry in state.history.evaluations:
        hooks.emit(figures_event(entry))
    loop.tell_best()
    if others := _of_other_images(loop.envelope, resumed.envelope):
        message = f"{_OTHER_IMAGES.format(step=state.step)}: {', '.join(others)}"
        hooks.emit(LogEvent(level="warn", message=message))
    hooks.emit(ResumeEvent(step=state.step, changed=resumed.changed))


def _of_other_images(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Latents that differ from a checkpoint's though what computes them does not: they are of other images."""
    same = all(ours.get(name) == theirs.get(name) for name in ("num_threads", "torch"))
    # 0.3.0 named the CPU's family alone, with which today's names begin.
    if not same or not str(ours.get("processor")).startswith(str(theirs.get("processor"))):
        return []
    return [name for name in _LATENTS if ours.get(name) != theirs.get(name)]


def tell_copies(hooks: Hooks, target: Decoded, held_out: Decoded, label: str) -> Copies:
    """Count images that occur more than once, and warn of them; `label` is `class` or `caption`."""
    found = count_copies(target.keys, held_out.keys, target.names, held_out.names)
    for sentence in found.sentences(len(held_out), label):
        hooks.emit(LogEvent(level="warn", message=sentence))
    return found


def name_of(target: Decoded, begun_with: str | None) -> str:
    """Name the training data as the run's checkpoints do: its digest, or what 0.3.0 called it if that began the run."""
    return target.earlier_digest if begun_with == target.earlier_digest else target.digest


def identity_of(config: TransferConfig, preparation: Preparation, training_data: str) -> dict[str, Any]:
    """Return what must be equal for a resume at all."""
    beginning = preparation.beginning
    return {
        "base_model": preparation.base.card.digest,
        "config": config_digest(config),
        "training_data": training_data,
        **({} if beginning is None else {"beginning": beginning.digest}),
    }


def envelope_of(
    config: TransferConfig, caches: dict[str, str | None], execution: Execution | None = None
) -> dict[str, Any]:
    """Return what must be equal for a resume to be exact; `caches` are the digests of what is trained on."""
    share = config.method.hyperparameters.batch_size // config.resources.gpus
    return {
        "num_threads": config.num_threads,
        "torch": torch.__version__,
        "processor": processor(),
        "processes": config.resources.gpus if config.resources.gpus > 1 else None,  # as before there were several
        **(execution or Execution()).envelope(share),
        **caches,
    }
