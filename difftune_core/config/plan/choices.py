"""What was chosen for settings that a job left open, and why."""

from __future__ import annotations

from typing import Any

from difftune_core.config.card import BaseModelCard
from difftune_core.config.course import EMA_TIME_CONSTANT, is_open
from difftune_core.config.frozen import Frozen
from difftune_core.config.plan.circumstances import Circumstances
from difftune_core.config.plan.memory import micro_batch_of, precision_of, share_of
from difftune_core.config.transfer import TransferConfig


class Choice(Frozen):
    """A setting that was left open."""

    field: str
    """Name of the setting, with dots, as in the request."""
    value: Any
    why: str
    """Reason for the value, as a sentence."""


def choices_of(
    given: TransferConfig, config: TransferConfig, card: BaseModelCard, known: Circumstances
) -> list[Choice]:
    """Tell what was chosen.

    Args:
        given: as stated.
        config: resolved from it.
        card: of the base model.
        known: what the plan is made for.
    """
    return [*_of_resources(given, config, known), *_of_training(given, config, card), *_of_samples(given, config)]


def _of_resources(given: TransferConfig, config: TransferConfig, known: Circumstances) -> list[Choice]:
    stated, found = given.resources, []
    on_gpu = known.device is not None and known.device.is_gpu
    where = "no worker has told what it has: planned as on a CPU" if known.device is None else known.device.name
    if stated.precision == "auto":
        precision = precision_of(config, on_gpu=on_gpu)
        why = f"{where}: bf16 where a GPU has it, else fp32."
        found.append(Choice(field="resources.precision", value=precision, why=why))
    if stated.micro_batch == "auto":
        count, share = micro_batch_of(config), share_of(config)
        why = "The whole batch fits." if count == share else f"With all {share} images at once it would not fit."
        if known.device is None or known.device.memory_bytes is None:
            why = "The whole batch: the memory of the device is not known."
        found.append(Choice(field="resources.micro_batch", value=count, why=why))
    if stated.activation_checkpointing == "auto":
        is_on = config.resources.activation_checkpointing == "on"
        why = "Without it, it would not fit." if is_on else "It is not needed to fit."
        found.append(Choice(field="resources.activation_checkpointing", value="on" if is_on else "off", why=why))
    if stated.compile == "auto":
        why = "A third faster or more after a minute on GPUs; a CPU gains less than it costs."
        found.append(Choice(field="resources.compile", value="on" if on_gpu else "off", why=why))
    return found


def _of_training(given: TransferConfig, config: TransferConfig, card: BaseModelCard) -> list[Choice]:
    where, hyperparameters = config.method.where, config.method.hyperparameters
    stated = given.method.hyperparameters.model_fields_set
    reasons = {
        "ema_decay": f"The average's time constant is {EMA_TIME_CONSTANT:g} of the steps, as the paper's is.",
        "checkpoint_every_steps": "At a quarter, half, three quarters and the end.",
    }
    if is_open(config):
        reasons = {}
    elif hyperparameters.epochs is not None:
        reasons["max_steps"] = f"{hyperparameters.epochs:g} epochs of the training images."
    of_card = f"The default of {card.id}."
    known = {name: of_card for name in card.defaults.training if name in type(hyperparameters).model_fields}
    found = {name: why for name, why in {**reasons, **known}.items() if name not in stated or _is_open_in(given, name)}
    choices = [
        Choice(field=f"{where}.{name}", value=getattr(hyperparameters, name), why=why) for name, why in found.items()
    ]
    if given.method.retention_set == "auto":
        value = hyperparameters.model_dump(mode="json")["retention_set"]
        choices.append(Choice(field=f"{where}.retention_set", value=value, why=of_card))
    return choices


def _of_samples(given: TransferConfig, config: TransferConfig) -> list[Choice]:
    """Tell of sample images on the way, once their number is known."""
    stated, chosen = given.samples, config.samples
    found = []
    if stated.num_images is None and chosen.num_images is not None:
        why = "Sample images take at most 3 % of the passes through the network; a small model has a few in any case."
        if chosen.num_images == 0:
            why = "The run is so short beside the model that a few images at its ends would take more than 3 % of it."
        found.append(Choice(field="samples.num_images", value=chosen.num_images, why=why))
    if stated.every_steps is None and chosen.every_steps is not None:
        why = "With each checkpoint and each evaluation they would take too much."
        found.append(Choice(field="samples.every_steps", value=chosen.every_steps, why=why))
    return found


def _is_open_in(given: TransferConfig, name: str) -> bool:
    return getattr(given.method.hyperparameters, name) is None
