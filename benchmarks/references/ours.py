"""Our own step on random weights and latents, as a run has it once everything is prepared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.references.flags import as_ours
from difftune_core.channel import SilentHooks
from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.config.card import BaseModelCard
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.process import make_process
from difftune_core.families.batch import Batch, TrainingData, losses_of, make_batch
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiTConfig
from difftune_core.runtime.execution import execution_of
from difftune_core.runtime.precision import Precision
from difftune_core.train.blocks import prepare_blocks
from difftune_core.train.step import StepResult, train_step

_STEPS = 1_000_000  # nothing ends amid a measurement


def random_latents(count: int, config: DiTConfig, device: torch.device) -> LatentSet:
    """Make latents with one side, as a data set without flips has them."""
    shape = (1, count, config.in_channels, config.input_size, config.input_size)
    mean, std = torch.randn(shape, device=device).half(), torch.rand(shape, device=device).half()
    return LatentSet(mean, std, torch.arange(count, device=device) % config.num_classes, digest=f"random {count}")


@dataclass
class OurRun:
    """A state, and what a step of it reads."""

    state: TrainState[Any]
    config: TransferConfig
    data: TrainingData

    @classmethod
    def of(
        cls,
        model: nn.Module,
        data: TrainingData,
        *,
        batch_size: int,
        cache: Path,
        beside: Sequence[nn.Module] = (),
        family: str = "dit",
        of_family: Mapping[str, Any] | None = None,
        **resources: Any,
    ) -> OurRun:
        """Prepare a run that trains `model` itself, as the service prepares it on the model's device.

        It is supervised, or by Diff-Tuning where the data have a retention set; `of_family` are settings that the
        family alone has.
        """
        method = "supervised" if data.retention_latents is None else "diff_tuning"
        given = {"max_steps": _STEPS, "batch_size": batch_size, "log_every_steps": _STEPS, "learning_rate": 1e-4}
        fields = {"model": "random", "method": {"type": method, method: {"hyperparameters": given}}}
        side = data.target_latents.shape[-1] * 8
        card = BaseModelCard(id="random", family=family, image_size=side, feature_extractor="none", digest="random")
        asked = TransferConfig.model_validate({**fields, **(of_family or {}), "resources": resources})
        config = resolve(asked, card, num_threads=torch.get_num_threads())
        execution = execution_of(config.resources, next(model.parameters()).device)
        state = new_state(model, config.method.hyperparameters, execution=execution)
        prepare_blocks(state, beside, config=config, data=data, hooks=SilentHooks(), cache=cache)
        return cls(state, config, data)

    @property
    def precision(self) -> Precision:
        """Precision in which the step computes."""
        return self.state.execution.precision

    def step(self) -> StepResult:
        """Take a step."""
        as_ours()
        return train_step(self.state, self.config, self.data)

    def batch(self) -> Batch:
        """Make the batch of the next step."""
        return make_batch(self.config, self.data, self.state.step)

    def loss(self, batch: Batch) -> Callable[[], torch.Tensor]:
        """Give the loss of a batch, as a step computes it."""

        def compute() -> torch.Tensor:
            with self.precision.autocast():
                losses = losses_of(self.state.model, batch, self.config.method, self.data)
            return (batch.weight * losses).mean()

        return compute


def random_data(config: DiTConfig, device: torch.device, count: int, *, retained: int = 0) -> LabelledData:
    """Make what a run of such a DiT trains on; with a retention set of so many images."""
    kept = random_latents(retained, config, device) if retained else None
    process = make_process(config).to(device)
    return LabelledData(random_latents(count, config, device), kept, config.num_classes, process)
