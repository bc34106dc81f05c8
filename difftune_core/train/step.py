"""One optimizer step: batch, losses and gradients part by part, update. All randomness is a function of (seed, step,
purpose).

No step waits for the device: what it found stays there until it is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from difftune_core.checkpoint.optimizer import set_learning_rate, take_step
from difftune_core.checkpoint.state import TrainState
from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.config.methods.method import Method
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.batch import Batch, TrainingData, losses_of, make_batch
from difftune_core.runtime.memory import is_out_of_memory
from difftune_core.train.learning_rate import learning_rate_at


@dataclass(frozen=True)
class StepResult:
    """What a step tells. Losses are per slot of the whole batch, detached; they and the norm are on the device."""

    losses: Float[Tensor, " b"]
    is_target: Bool[Tensor, " b"]
    grad_norm: Float[Tensor, ""]
    halved_to: int | None = None
    """Images that go through the network at once from this step on, where memory was short in it."""


def train_step(state: TrainState[Any], config: TransferConfig, data: TrainingData) -> StepResult:
    """Advance `state` by one optimizer step.

    A step whose loss or gradient is not finite leaves the weights as they are, and so does every later one.

    Raises:
        TaskError: `diverged`, at a step that is logged, where this step or one before it is not finite.
    """
    hyperparameters = config.method.hyperparameters
    batch, replica = make_batch(config, data, state.step), state.replica
    own = batch.part(replica.slots(len(batch.weight)))
    found, halved_to = backward_in_what_fits(state, own, config.method, data)
    losses = replica.of_all(found)
    norm = update(state, losses, hyperparameters)
    state.target_images += len(batch.weight) if data.teach is not None else batch.is_target.tolist().count(True)
    if is_logged(state.step, hyperparameters):
        state.settle()
    return StepResult(losses, batch.is_target, norm, halved_to)


def is_logged(step: int, hyperparameters: TrainingHyperparameters) -> bool:
    """Return whether metrics are told after this many steps."""
    return step % hyperparameters.log_every_steps == 0 or step == hyperparameters.max_steps


def backward_in_what_fits(
    state: TrainState[Any], batch: Batch, method: Method, data: TrainingData
) -> tuple[Float[Tensor, " b"], int | None]:
    """Do as `backward`; where memory is short, once in a run, do it anew with half as many images at once.

    Nothing has moved before the gradient is whole, so the step is the same up to rounding.

    Returns:
        The losses, and the number of images that go through the network at once from now on, if it was halved.
    """
    try:
        return backward(state, batch, method, data), None
    except Exception as error:
        count = state.execution.micro_batch or len(batch.weight)
        at_once = min(count, len(batch.weight))
        if state.was_halved or at_once == 1 or state.replica.world > 1 or not is_out_of_memory(error):
            raise  # of several processes the others would wait for this one
    state.was_halved, half = True, at_once // 2
    state.execution = replace(state.execution, micro_batch=half)
    state.drop_gradients()
    torch.cuda.empty_cache()  # what the failed attempt has left in pieces; nothing without a GPU
    return backward(state, batch, method, data), half


def backward(state: TrainState[Any], batch: Batch, method: Method, data: TrainingData) -> Float[Tensor, " b"]:
    """Put the gradient of the slots' mean weighted loss into the model, part by part; the losses, detached."""
    state.optimizer.zero_grad(set_to_none=True)
    size, found = len(batch.weight), []
    for slots in state.execution.parts(size):
        part = batch.part(slots)
        with state.replica.gathering(is_last=slots.stop == size):
            with state.execution.precision.autocast():
                losses = losses_of(state.replica.model, part, method, data)
            weighted = part.weight * losses
            loss = weighted.mean() if len(losses) == size else weighted.sum() / size
            torch.autograd.backward(loss if state.scaler is None else state.scaler.scale(loss))
        found.append(losses.detach())
    return torch.cat(found)


def update(
    state: TrainState[Any], losses: Float[Tensor, " b"], hyperparameters: TrainingHyperparameters
) -> Float[Tensor, ""]:
    """Step the optimizer and the average by the gradient of `losses`; return its norm before it is cut."""
    optimizer, scaler, parameters = state.optimizer, state.scaler, list(state.trainable().values())
    if scaler is not None:
        scaler.unscale_(optimizer)
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if hyperparameters.max_grad_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, hyperparameters.max_grad_norm, norm)
    set_learning_rate(optimizer, learning_rate_at(state.step, hyperparameters))
    if scaler is None:
        take_step(optimizer, stays=state.note(norm.isfinite()))
    else:  # a gradient beyond float16 makes the scale smaller; only a loss that is no number is the run's end
        state.note(losses.isfinite().all())
        scaler.step(optimizer)
        scaler.update()
    assert hyperparameters.ema_decay is not None, "resolved at submit"
    state.update_average(hyperparameters.ema_decay)
    state.step += 1
    return norm
