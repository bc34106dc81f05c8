"""The batch of a step and its losses, the same for every family: all randomness is a function of (seed, step, purpose).

A family says what its data are and what condition goes with a slot; draws, order, flips, posterior and noise are drawn
here, so that two families, or two methods of one, are paired step by step. Shapes: b slots, c latent channels, h w
their size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from difftune_core.config.methods.method import Method
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.latents import Latents
from difftune_core.diffusion.denoisers import NO_TIME, Condition, Denoiser, rows_of
from difftune_core.diffusion.process import Process
from difftune_core.objectives.denoising import NoisedBatch, noised
from difftune_core.objectives.distillation import distillation_loss
from difftune_core.objectives.dogfit import unguided
from difftune_core.objectives.draws import draw
from difftune_core.objectives.draws import losses as losses_by
from difftune_core.objectives.laws import mse_weight
from difftune_core.runtime.rng import generator, stream_indices
from difftune_core.runtime.tensors import sent

Teach = Callable[[Tensor, Tensor], Tensor]
"""Gives for x [k, c, h, w] and t [k], as networks take them, what the base model predicts without a condition, in as
many channels as a latent has."""


@dataclass(frozen=True)
class Slots:
    """Which images stand in the slots of a batch; on the CPU."""

    target: Int[Tensor, " b"]
    """Number of the target's image, also where the slot is not a target's."""
    kept: Int[Tensor, " b"] | None
    """Number of the retention set's image; None where there is no set."""
    is_target: Bool[Tensor, " b"]
    dropped: Bool[Tensor, " b"]
    """Whether a target's condition is dropped, for classifier-free guidance."""


@runtime_checkable  # the tests check arguments at run time
class TrainingData(Protocol):
    """What a run trains on, resident on its device."""

    @property
    def process(self) -> Process:
        """How noise enters."""
        ...

    @property
    def target_latents(self) -> Latents:
        """The target's images."""
        ...

    @property
    def retention_latents(self) -> Latents | None:
        """The retention set's images; None where the method needs none."""
        ...

    @property
    def teach(self) -> Teach | None:
        """What the frozen base model says, where it is distilled in slots that are not the target's; else None."""
        ...

    def conditions(self, slots: Slots) -> Condition:
        """The condition of each slot, on the run's device."""
        ...

    def dropout(self, config: TransferConfig) -> float:
        """Return how often a target's condition is dropped."""
        ...

    def denoiser(self, model: nn.Module) -> Denoiser:
        """The network that is trained, as one that denoises."""
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """Training data whose conditions are read from files too."""

    def read_ahead(self, target: Int[Tensor, " b"], kept: Int[Tensor, " b"] | None) -> None:
        """Begin to read the conditions of the next step's images; nobody waits for it."""
        ...


@dataclass(frozen=True)
class Batch:
    """One step's input. b slots."""

    noised: NoisedBatch
    condition: Condition
    is_target: Bool[Tensor, " b"]
    """Whether a slot is the target's; on the CPU, where it was drawn, so that the host need not ask a device."""
    weight: Float[Tensor, " b"]
    is_untimed: Bool[Tensor, " b"] | None = None
    """Whether the network is not told the slot's time; None where it always is."""
    guidance: Float[Tensor, " b"] | None = None
    """Guidance that the draws say; 0 where the condition is dropped, for there is nothing to be guided to."""

    def part(self, slots: slice) -> Batch:
        """Return some of the slots."""
        untimed, guidance = (None if each is None else each[slots] for each in (self.is_untimed, self.guidance))
        condition = rows_of(self.condition, slots)
        return Batch(self.noised.part(slots), condition, self.is_target[slots], self.weight[slots], untimed, guidance)


def make_batch(config: TransferConfig, data: TrainingData, step: int) -> Batch:
    """Make the batch of optimizer step `step` (from 0)."""
    seed, size = config.seed, config.method.hyperparameters.batch_size
    draws = draw(config.method, seed=seed, step=step, process=data.process)
    latents, retained = data.target_latents, data.retention_latents
    device, shape = latents.device, (size, *latents.shape)
    flip = torch.rand(size, generator=generator(seed, step, "flip")) < 0.5  # noqa: PLR2004  # a fair coin
    posterior = sent(torch.randn(shape, generator=generator(seed, step, "posterior")), device)
    place: dict[str, Any] = {"start": step * size, "count": size}
    slots = Slots(
        target=stream_indices(seed, "target order", size=len(latents), **place),
        kept=None if retained is None else stream_indices(seed, "retention order", size=len(retained), **place),
        is_target=draws.is_target,
        dropped=torch.rand(size, generator=generator(seed, step, "label")) < data.dropout(config),
    )
    x0 = latents.draw(slots.target, flip, posterior)
    _read_ahead(data, seed, start=(step + 1) * size, count=size)
    if retained is not None and slots.kept is not None:
        is_target = sent(draws.is_target, device)[:, None, None, None]
        x0 = torch.where(is_target, x0, retained.draw(slots.kept, flip, posterior))
    noise = sent(torch.randn(shape, generator=generator(seed, step, "noise")), device)
    batch = noised(x0, noise, sent(draws.t, device), data.process)
    guidance = None if draws.guidance is None else sent(draws.guidance.masked_fill(slots.dropped, 0), device)
    return Batch(
        batch,
        data.conditions(slots),
        draws.is_target,
        sent(draws.weight, device),
        _untimed(config, draws.is_target, step),
        guidance,
    )


def _untimed(config: TransferConfig, is_target: Bool[Tensor, " b"], step: int) -> Bool[Tensor, " b"] | None:
    """Draw the slots that are learned without time: some of the target's, for what is retained keeps its time."""
    share = config.method.hyperparameters.time_dropout
    if share == 0:
        return None
    return is_target & (torch.rand(len(is_target), generator=generator(config.seed, step, "time")) < share)


def _read_ahead(data: TrainingData, seed: int, *, start: int, count: int) -> None:
    """Begin to read what the next step draws, of sets that stay in their files."""
    latents, retained = data.target_latents, data.retention_latents
    target = stream_indices(seed, "target order", size=len(latents), start=start, count=count)
    latents.prefetch(target)
    kept = None
    if retained is not None:
        kept = stream_indices(seed, "retention order", size=len(retained), start=start, count=count)
        retained.prefetch(kept)
    if isinstance(data, ReadsAhead):
        data.read_ahead(target, kept)


def losses_of(model: nn.Module, batch: Batch, method: Method, data: TrainingData) -> Float[Tensor, " b"]:
    """Compute the loss of each slot, before the draws' weight."""
    x_t, t = batch.noised.x_t, batch.noised.t
    x, time = data.process.network_inputs(x_t, t)
    told = time
    if batch.is_untimed is not None:
        told = time.masked_fill(sent(batch.is_untimed, time.device), NO_TIME)
    output = data.denoiser(model)(x, told, batch.condition).float()  # the loss is in float32 in any precision
    if batch.guidance is not None and data.teach is not None:
        output = unguided(output, data.teach(x, time).float(), batch.guidance)
    weight = mse_weight(method.hyperparameters.loss_weighting, data.process, t)
    losses = losses_by(method, output, batch.noised, data.process, weight)
    places = [place for place, is_target in enumerate(batch.is_target.tolist()) if not is_target]
    if data.teach is None or not places:
        return losses
    taught = sent(torch.tensor(places), x.device)
    answer, weight = data.teach(x[taught], time[taught]).float(), None if weight is None else weight[taught]
    return losses.index_copy(0, taught, distillation_loss(output[taught], answer, weight))
