"""The course of a run: its length in steps, and the settings that follow from that. Pydantic only.

A run is so many steps long, or so many passes over its training images (`epochs`); these become steps where the number
of images is first known. Until then the config is open: it has no `max_steps`, nor what would follow from it.
"""

from __future__ import annotations

import math
from typing import Any

from difftune_core.config.card import BaseModelCard
from difftune_core.config.methods.hyperparameters import MAX_STEPS, TrainingHyperparameters
from difftune_core.config.samples import FEWEST_IMAGES, completed_samples
from difftune_core.config.transfer import TransferConfig
from difftune_core.hooks import TaskError

EMA_TIME_CONSTANT = 0.42  # in units of max_steps: 10,000 / 24,000, the paper's decay 0.9999 at its 24,000 steps
_SHORTENED_WARMUP = 10  # a tenth of the steps, where a card's warm-up, or one stated beside epochs, leaves none
_DIGITS = 9  # 0.1 * 30 is a little more than 3, and no step more


def steps_of(epochs: float, num_images: int, batch_size: int) -> int:
    """Steps in which the training images go by so many times, the last batch being whole."""
    return max(1, math.ceil(round(epochs * num_images / batch_size, _DIGITS)))


def check_course(given: TrainingHyperparameters, card: BaseModelCard, where: str, num_images: int | None) -> None:
    """Refuse what was stated of length and learning rate and does not go together.

    Args:
        given: as stated.
        card: of the base model.
        where: the field that holds them, with dots.
        num_images: training images, where they are known.

    Raises:
        TaskError: `invalid_option`, naming the field.
    """
    if given.epochs is not None and "max_steps" in given.model_fields_set:
        batch_size = int(_resolved("batch_size", given, card))
        steps = None if num_images is None else steps_of(given.epochs, num_images, batch_size)
        if steps != given.max_steps:  # those of a job that is submitted again are equal
            same = "" if steps is None else f", and they are not the same: {given.epochs:g} epochs are {steps} steps"
            raise TaskError("invalid_option", f"state epochs or max_steps, not both{same}", f"{where}.epochs")
    field = "min_learning_rate"
    if _resolved("lr_schedule", given, card) == "constant":
        if field in given.model_fields_set and given.min_learning_rate not in {0.0, _filled_in(field, card)}:
            message = "min_learning_rate is where the schedules linear and cosine end; constant does not fall"
            raise TaskError("invalid_option", message, f"{where}.{field}")
        return
    steps, schedule = _resolved("max_steps", given, card), _resolved("lr_schedule", given, card)
    if given.epochs is None and "warmup_steps" in given.model_fields_set and given.warmup_steps >= steps:
        message = f"after {given.warmup_steps} steps of warm-up none of the {steps} steps is left for {schedule}"
        raise TaskError("invalid_option", message, f"{where}.warmup_steps")
    if _resolved(field, given, card) > (highest := _resolved("learning_rate", given, card)):
        message = f"min_learning_rate is above the learning_rate of {highest:g}"
        raise TaskError("invalid_option", message, f"{where}.{field}")


def completed(training: dict[str, Any], where: str) -> dict[str, Any]:
    """Fill in what follows from the number of steps: the average's decay, when checkpoints are saved, the warm-up.

    Args:
        training: hyperparameters by name, with `max_steps`.
        where: the field that holds them, with dots.

    Raises:
        TaskError: `invalid_option`, the epochs are too many steps.
    """
    steps = int(training["max_steps"])
    if steps > MAX_STEPS:
        raise TaskError("invalid_option", f"a run has at most {MAX_STEPS} steps, not {steps}", f"{where}.epochs")
    found = dict(training)
    if found["lr_schedule"] != "constant" and found["warmup_steps"] >= steps:
        found["warmup_steps"] = steps // _SHORTENED_WARMUP
    if found["ema_decay"] is None:
        found["ema_decay"] = math.exp(-1 / (EMA_TIME_CONSTANT * steps))
    if found["checkpoint_every_steps"] is None:
        found["checkpoint_every_steps"] = math.ceil(steps / 4)
    return found


def with_samples(config: TransferConfig, *, small: bool) -> TransferConfig:
    """Say how many sample images are drawn on the way, which depends on the number of steps.

    Args:
        config: resolved; of an open one whose model is small it is said now, of others when it is closed.
        small: whether the base model is.

    Raises:
        TaskError: `invalid_option`, naming `samples.every_steps`.
    """
    training = config.method.hyperparameters
    if is_open(config):
        later = config.samples.num_images is not None or not small
        update = {} if later else {"num_images": FEWEST_IMAGES}
        return config.model_copy(update={"samples": config.samples.model_copy(update=update)})
    samples = completed_samples(
        config.samples,
        steps=training.max_steps,
        batch_size=training.batch_size,
        marked=(training.checkpoint_every_steps, config.evaluation.every_steps),
        is_small=small,
    )
    return config.model_copy(update={"samples": samples})


def is_open(config: TransferConfig) -> bool:
    """Return whether the length of a resolved config waits for the number of training images."""
    return _open_epochs(config) is not None


def _open_epochs(config: TransferConfig) -> float | None:
    given = config.method.hyperparameters
    return None if "max_steps" in given.model_fields_set else given.epochs


def closed(config: TransferConfig, num_images: int) -> TransferConfig:
    """Close a resolved config: its epochs become steps; one that is not open stays as it is.

    Raises:
        TaskError: as `completed`.
    """
    method = config.method
    given = method.hyperparameters
    epochs = _open_epochs(config)
    if epochs is None:
        return config
    steps = steps_of(epochs, num_images, given.batch_size)
    training = completed({**given.model_dump(), "max_steps": steps}, method.where)
    return with_samples(config.model_copy(update={"method": method.having(**training)}), small=False)


def as_stored(config: TransferConfig) -> dict[str, Any]:
    """Dump a resolved config as JSON has it; an open one without `max_steps`."""
    fields = config.model_dump(mode="json")
    if is_open(config):
        del fields["method"][config.method.type]["hyperparameters"]["max_steps"]
    return fields


def told_of_length(config: TransferConfig, num_images: int) -> str:
    """Say what epochs have become."""
    given = config.method.hyperparameters
    assert given.epochs is not None, "asked for in epochs"
    epochs = f"{given.epochs:g} {'epoch' if given.epochs == 1 else 'epochs'}"
    return f"{epochs} of {num_images} training images are {given.max_steps} steps of {given.batch_size} images."


def _resolved(field: str, given: TrainingHyperparameters, card: BaseModelCard) -> Any:
    return getattr(given, field) if field in given.model_fields_set else _filled_in(field, card)


def _filled_in(field: str, card: BaseModelCard) -> Any:
    return card.defaults.training.get(field, TrainingHyperparameters.model_fields[field].default)
