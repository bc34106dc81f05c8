"""One optimizer step: draw, noise, denoise, loss, update. All randomness is a function of (seed, step, purpose)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from difftune_core.config.transfer import TrainingHyperparameters, TransferConfig
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.process import Process
from difftune_core.hooks import TaskError
from difftune_core.models.dit import DiT
from difftune_core.objectives.denoising import NoisedBatch, denoising_loss, noised
from difftune_core.objectives.distillation import distillation_loss
from difftune_core.objectives.draws import draw
from difftune_core.objectives.laws import mse_weight
from difftune_core.runtime.rng import generator, stream_indices
from difftune_core.train.state import TrainState, update_average


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on, resident on its device."""

    target: LatentSet
    retention: LatentSet | None
    """None where the method needs none."""
    null_label: int
    process: Process
    teacher: DiT | None = None
    """The frozen base model, where it is distilled."""


@dataclass(frozen=True)
class Batch:
    """One step's input. b slots."""

    noised: NoisedBatch
    labels: Int[Tensor, " b"]
    is_target: Bool[Tensor, " b"]
    weight: Float[Tensor, " b"]

    def part(self, slots: slice) -> Batch:
        """Some of the slots."""
        return Batch(self.noised.part(slots), self.labels[slots], self.is_target[slots], self.weight[slots])


@dataclass(frozen=True)
class StepResult:
    """What a step tells. Losses are per slot of the whole batch, detached."""

    losses: Float[Tensor, " b"]
    is_target: Bool[Tensor, " b"]
    grad_norm: float


def make_batch(config: TransferConfig, data: TrainingData, step: int) -> Batch:
    """The batch of optimizer step `step` (from 0)."""
    seed, size = config.seed, config.method.hyperparameters.batch_size
    draws = draw(config.method, seed=seed, step=step, process=data.process)
    flip = torch.rand(size, generator=generator(seed, step, "flip")) < 0.5  # noqa: PLR2004  # a fair coin
    shape = (size, *data.target.mean.shape[2:])
    posterior = torch.randn(shape, generator=generator(seed, step, "posterior"))
    device = data.target.labels.device
    place = {"start": step * size, "count": size}
    target = stream_indices(seed, "target order", size=len(data.target), **place).to(device)
    x0 = data.target.draw(target, flip.to(device), posterior.to(device))
    dropped = torch.rand(size, generator=generator(seed, step, "label")) < config.method.hyperparameters.label_dropout
    labels = data.target.labels[target].masked_fill(dropped.to(device), data.null_label)
    is_target = draws.is_target.to(device)
    labels = labels.masked_fill(~is_target, data.null_label)
    if data.retention is not None:
        kept = stream_indices(seed, "retention order", size=len(data.retention), **place).to(device)
        retained = data.retention.draw(kept, flip.to(device), posterior.to(device))
        x0 = torch.where(is_target[:, None, None, None], x0, retained)
    noise = torch.randn(shape, generator=generator(seed, step, "noise")).to(device)
    batch = noised(x0, noise, draws.t.to(device), data.process)
    return Batch(batch, labels, is_target, draws.weight.to(device))


def losses_of(
    model: nn.Module, batch: Batch, hyperparameters: TrainingHyperparameters, data: TrainingData
) -> Float[Tensor, " b"]:
    """Loss of each slot, before the draws' weight."""
    x_t, t = batch.noised.x_t, batch.noised.t
    x, time = data.process.network_inputs(x_t, t)
    output = model(x, time, batch.labels)
    weight = mse_weight(hyperparameters.loss_weighting, data.process, t)
    losses = denoising_loss(output, batch.noised, data.process, weight)
    if data.teacher is None or bool(batch.is_target.all()):
        return losses
    taught = torch.nonzero(~batch.is_target).flatten()
    inputs, weight = (x[taught], time[taught]), None if weight is None else weight[taught]
    return losses.index_copy(0, taught, distillation_loss(output[taught], data.teacher, inputs, weight))


def train_step(state: TrainState[DiT], config: TransferConfig, data: TrainingData) -> StepResult:
    """Advance `state` by one optimizer step.

    Raises:
        TaskError: `diverged` where loss or gradient is not finite; the weights are then untouched.
    """
    batch, replica = make_batch(config, data, state.step), state.replica
    own = batch.part(replica.slots(len(batch.weight)))
    losses = losses_of(replica.model, own, config.method.hyperparameters, data)
    norm = update(state, (own.weight * losses).mean(), config.method.hyperparameters)
    state.target_images += len(batch.weight) if data.teacher is not None else int(batch.is_target.sum())
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
    warmup = min(1.0, (state.step + 1) / (hyperparameters.warmup_steps or 1))
    for group in state.optimizer.param_groups:
        group["lr"] = hyperparameters.learning_rate * warmup
    state.optimizer.step()
    assert hyperparameters.ema_decay is not None, "resolved at submit"
    update_average(state.average, state.model, hyperparameters.ema_decay)
    state.step += 1
    return float(norm)
