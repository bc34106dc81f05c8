"""One optimizer step: batch, loss, update. All randomness is a function of (seed, step, purpose)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from difftune_core.checkpoint.state import TrainState, update_average
from difftune_core.config.transfer import TrainingHyperparameters, TransferConfig
from difftune_core.families.batch import TrainingData, losses_of, make_batch
from difftune_core.hooks import TaskError
from difftune_core.train.learning_rate import learning_rate_at


@dataclass(frozen=True)
class StepResult:
    """What a step tells. Losses are per slot of the whole batch, detached."""

    losses: Float[Tensor, " b"]
    is_target: Bool[Tensor, " b"]
    grad_norm: float


def train_step(state: TrainState[Any], config: TransferConfig, data: TrainingData) -> StepResult:
    """Advance `state` by one optimizer step.

    Raises:
        TaskError: `diverged` where loss or gradient is not finite; the weights are then untouched.
    """
    batch, replica = make_batch(config, data, state.step), state.replica
    own = batch.part(replica.slots(len(batch.weight)))
    losses = losses_of(replica.model, own, config.method.hyperparameters, data)
    norm = update(state, (own.weight * losses).mean(), config.method.hyperparameters)
    state.target_images += len(batch.weight) if data.has_teacher else int(batch.is_target.sum())
    return StepResult(replica.of_all(losses.detach()), batch.is_target, norm)


def update(state: TrainState[Any], loss: Float[Tensor, ""], hyperparameters: TrainingHyperparameters) -> float:
    """One step of the optimizer and of the average down `loss`; the gradient's norm before it is cut.

    Raises:
        TaskError: as `train_step`.
    """
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    limit = hyperparameters.max_grad_norm
    norm = torch.nn.utils.clip_grad_norm_(state.trainable().values(), limit if limit is not None else torch.inf)
    if not torch.isfinite(norm):
        raise TaskError("diverged", f"loss or gradient is not finite at step {state.step + 1}", "learning_rate")
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(state.step, hyperparameters)
    state.optimizer.step()
    assert hyperparameters.ema_decay is not None, "resolved at submit"
    update_average(state.average, state.model, hyperparameters.ema_decay)
    state.step += 1
    return float(norm)
