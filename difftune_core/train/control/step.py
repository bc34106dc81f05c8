"""One optimizer step of a ControlNet: draw, noise, denoise with the control, loss, update.

Target slots are an image with its caption and its control; retention slots an image of the base model with the default
prompt and the control drawn from it (Diff-Tuning, App. B.2). The draws are those of `difftune_core.objectives.draws`,
so psi, the recipes and their pairing by seed are the same as for DiT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from difftune_core.config.transfer import TrainingHyperparameters, TransferConfig
from difftune_core.data.controlled import ControlledSet
from difftune_core.diffusion.process import Process
from difftune_core.families.controlnet.draw import residuals
from difftune_core.objectives.denoising import NoisedBatch, denoising_loss, noised
from difftune_core.objectives.draws import draw
from difftune_core.objectives.laws import mse_weight
from difftune_core.runtime.rng import generator, stream_indices
from difftune_core.train.state import TrainState
from difftune_core.train.step import StepResult, update


@dataclass(frozen=True)
class ControlledData:
    """What a run trains on, and the frozen denoiser that it trains through."""

    target: ControlledSet
    retention: ControlledSet | None
    """None where the method needs none."""
    empty_prompt: int
    """Row of the empty prompt among the text states."""
    process: Process
    unet: Any


@dataclass(frozen=True)
class ControlledBatch:
    """One step's input. b slots."""

    noised: NoisedBatch
    text: Float[Tensor, "b l d"]
    controls: UInt8[Tensor, "b 3 s s"]
    is_target: Bool[Tensor, " b"]
    weight: Float[Tensor, " b"]

    def part(self, slots: slice) -> ControlledBatch:
        """Some of the slots."""
        noised_part = self.noised.part(slots)
        return ControlledBatch(
            noised_part, self.text[slots], self.controls[slots], self.is_target[slots], self.weight[slots]
        )


def make_batch(config: TransferConfig, data: ControlledData, step: int) -> ControlledBatch:
    """The batch of optimizer step `step` (from 0)."""
    assert config.control is not None, "resolved at submit"
    seed, size = config.seed, config.method.hyperparameters.batch_size
    draws = draw(config.method, seed=seed, step=step, process=data.process)
    latents = data.target.latents
    device, shape = latents.mean.device, (size, *latents.mean.shape[2:])
    posterior = torch.randn(shape, generator=generator(seed, step, "posterior")).to(device)
    unflipped = torch.zeros(size, dtype=torch.bool, device=device)
    place = {"start": step * size, "count": size}
    target = stream_indices(seed, "target order", size=len(data.target), **place)
    x0 = latents.draw(target.to(device), unflipped, posterior)
    controls = data.target.controls[target.to(device)]
    dropped = torch.rand(size, generator=generator(seed, step, "label")) < config.control.prompt_dropout
    prompt = data.target.prompt[target].masked_fill(dropped, data.empty_prompt)
    is_target = draws.is_target.to(device)
    if data.retention is not None:
        kept = stream_indices(seed, "retention order", size=len(data.retention), **place)
        chosen = is_target[:, None, None, None]
        x0 = torch.where(chosen, x0, data.retention.latents.draw(kept.to(device), unflipped, posterior))
        controls = torch.where(chosen, controls, data.retention.controls[kept.to(device)])
        prompt = torch.where(draws.is_target, prompt, data.retention.prompt[kept])
    noise = torch.randn(shape, generator=generator(seed, step, "noise")).to(device)
    batch = noised(x0, noise, draws.t.to(device), data.process)
    return ControlledBatch(batch, data.target.text_of(prompt), controls, is_target, draws.weight.to(device))


def losses_of(
    controlnet: nn.Module, batch: ControlledBatch, hyperparameters: TrainingHyperparameters, data: ControlledData
) -> Float[Tensor, " b"]:
    """Loss of each slot, before the draws' weight.

    The UNet's encoder runs without a graph, since nothing before its decoder depends on what is trained.
    """
    x_t, t = batch.noised.x_t, batch.noised.t
    added = residuals(controlnet, x_t, t, text=batch.text, controls=batch.controls)
    output: Tensor = data.unet(x_t, t, encoder_hidden_states=batch.text, return_dict=False, **added)[0]
    weight = mse_weight(hyperparameters.loss_weighting, data.process, t)
    return denoising_loss(output, batch.noised, data.process, weight)


def control_step(state: TrainState[nn.Module], config: TransferConfig, data: ControlledData) -> StepResult:
    """Advance `state` by one optimizer step.

    Raises:
        TaskError: `diverged` where loss or gradient is not finite; the weights are then untouched.
    """
    batch, replica = make_batch(config, data, state.step), state.replica
    own = batch.part(replica.slots(len(batch.weight)))
    losses = losses_of(replica.model, own, config.method.hyperparameters, data)
    norm = update(state, (own.weight * losses).mean(), config.method.hyperparameters)
    state.target_images += int(batch.is_target.sum())
    return StepResult(replica.of_all(losses.detach()), batch.is_target, norm)
