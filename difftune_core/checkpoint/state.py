"""Everything that changes while training: weights, their average, the optimizer, and what was seen so far."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from difftune_core.adapters.select import adapt
from difftune_core.checkpoint.average import HostAverage, update_average
from difftune_core.checkpoint.optimizer import dumped_moments, load_moments, new_optimizer
from difftune_core.config.adapter import Adapter, FullTuning
from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.config.reports.record import changed
from difftune_core.hooks import TaskError
from difftune_core.runtime.execution import Execution
from difftune_core.runtime.precision import COMPUTES_IN, keep_frozen_in
from difftune_core.runtime.replica import Replica

Model = TypeVar("Model", bound=nn.Module)
_SCALE, _GROWTH, _UPDATES = "scaler/scale", "scaler/growth", "scaler/updates"


@dataclass
class History:
    """Curves and evaluations up to now; travels with the checkpoint so that the report of a resumed run is whole."""

    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Append one point to each named curve."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, value))

    def newest(self, count: int) -> dict[int, dict[str, float]]:
        """Values by step and name, of the last `count` steps that have any."""
        steps = sorted({step for curve in self.curves.values() for step, _ in curve})[-count:]
        found: dict[int, dict[str, float]] = {step: {} for step in steps}
        for name, curve in self.curves.items():
            for step, value in curve:
                if step in found:
                    found[step][name] = value
        return found

    def evaluated(self, step: int) -> bool:
        """Return whether this step was evaluated already."""
        return any(entry.step == step for entry in self.evaluations)

    def complete(self, entry: Evaluation, figures: Mapping[str, Any]) -> Evaluation:
        """Put an evaluation with further figures in its place, and return it."""
        whole = changed(entry, **figures)
        self.evaluations[self.evaluations.index(entry)] = whole
        return whole

    def dumped(self) -> dict[str, Any]:
        """Return the history as a checkpoint keeps it."""
        return {"curves": self.curves, "evaluations": [entry.model_dump() for entry in self.evaluations]}

    @classmethod
    def of(cls, dumped: Mapping[str, Any]) -> History:
        """Make a history of what a checkpoint keeps."""
        curves = {name: [(int(s), float(v)) for s, v in points] for name, points in dumped["curves"].items()}
        return cls(curves, [Evaluation.model_validate(entry) for entry in dumped["evaluations"]])


@dataclass
class TrainState(Generic[Model]):
    """The state of a run after `step` optimizer steps."""

    model: Model
    average: Model
    """Exponential moving average of the weights, the model that is delivered. What is not trained is shared with
    `model`."""
    optimizer: torch.optim.Optimizer
    step: int = 0
    target_images: int = 0
    """Target images that entered a step so far."""
    history: History = field(default_factory=History)
    adapter: Adapter = field(default_factory=FullTuning)
    """Adapter that was put into both models."""
    execution: Execution = field(default_factory=Execution)
    """How steps are carried out."""
    was_halved: bool = False
    """Whether memory was short, so that half as many images go through the network at once as were to."""

    def __post_init__(self) -> None:
        """Train alone, until others join."""
        self.replica = Replica(self.model)
        self.scaler = self.execution.precision.new_scaler()
        self._diverged = torch.zeros((), device=next(self.model.parameters()).device)
        on_host = self.execution.average_on_host and self.is_full
        self._host_average = HostAverage(self.average, self.model) if on_host else None

    def update_average(self, decay: float) -> None:
        """Move the average towards the weights of the step that was taken."""
        if self._host_average is not None:
            self._host_average.take(decay)
        else:
            update_average(self.average, self.model, decay)

    def average_on_device(self) -> AbstractContextManager[None]:
        """Open a block in which the average is on the device, to be judged."""
        return nullcontext() if self._host_average is None else self._host_average.on_device()

    def note(self, is_finite: Tensor) -> Tensor:
        """Note on the device whether the step that is being taken is finite; no host waits for it.

        Returns:
            1.0 where the weights must stay as they are: from the first step on that is not finite; else 0.0.
        """
        first = (self._diverged == 0) & ~is_finite
        self._diverged = torch.where(first, float(self.step + 1), self._diverged)
        return (self._diverged > 0).float()

    def settle(self) -> None:
        """Wait for the steps that were taken, and refuse what is not finite: before they are told, judged or saved.

        Raises:
            TaskError: `diverged`, naming the first step whose loss or gradient was not finite.
        """
        if step := int(self._diverged):
            raise TaskError("diverged", f"loss or gradient is not finite at step {step}", "learning_rate")
        if self._host_average is not None:
            self._host_average.settle()

    @property
    def is_full(self) -> bool:
        """Whether all of the model is trained: the average then is a whole model by itself."""
        return isinstance(self.adapter, FullTuning)

    def drop_gradients(self) -> None:
        """Let go of the gradients, which the next step makes anew."""
        self.optimizer.zero_grad(set_to_none=True)

    def end(self) -> None:
        """Let go of gradients and moments, and have the average on the device: no step follows."""
        self.drop_gradients()
        self.optimizer.state.clear()
        if self._host_average is not None:
            self._host_average.bring_back()
            self._host_average = None

    def trainable(self) -> dict[str, Tensor]:
        """Trained parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def average_trainable(self) -> dict[str, Tensor]:
        """The average of the trained parameters by name."""
        average = dict(self.average.named_parameters())
        return {name: average[name].detach() for name in self.trainable()}

    def resume_tensors(self) -> dict[str, Tensor]:
        """Raw weights and the optimizer's moments, by name: with the average, all that a resume needs.

        With an adapter also the average of what is trained, since the delivered model has it merged.
        """
        tensors = {f"raw/{name}": p.detach() for name, p in self.trainable().items()}
        tensors |= dumped_moments(self.optimizer, self.trainable())
        if not self.is_full:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average_trainable().items()}
        return tensors | self._scaler_tensors()

    def _scaler_tensors(self) -> dict[str, Tensor]:
        """Pack how gradients are scaled and how many steps were updates: one with too large a scale is passed over."""
        if self.scaler is None:
            return {}
        state, first = self.scaler.state_dict(), next(iter(self.trainable().values()))
        taken = self.optimizer.state[first].get("step", torch.zeros(()))
        return {
            _SCALE: torch.tensor(float(state["scale"])),
            _GROWTH: torch.tensor(int(state["_growth_tracker"])),
            _UPDATES: taken.detach().clone(),
        }

    def _load_scaler(self, tensors: Mapping[str, Tensor]) -> float:
        """Take up how gradients were scaled, if they were; return the number of updates so far."""
        if self.scaler is not None and _SCALE in tensors:
            state = {"scale": float(tensors[_SCALE]), "_growth_tracker": int(tensors[_GROWTH])}
            self.scaler.load_state_dict({**self.scaler.state_dict(), **state})
        return float(tensors[_UPDATES]) if _UPDATES in tensors else float(self.step)

    @torch.no_grad()
    def load_resume_tensors(self, tensors: dict[str, Tensor], delivered: dict[str, Tensor]) -> None:
        """The reverse of `resume_tensors`; `step` must be set before. `delivered` counts for full tuning only."""
        if self.is_full:
            self.average.load_state_dict(delivered)
        else:
            for name, average in self.average_trainable().items():
                average.copy_(tensors[f"average/{name}"])
        for name, parameter in self.trainable().items():
            parameter.copy_(tensors[f"raw/{name}"])
        load_moments(self.optimizer, self.trainable(), tensors, self._load_scaler(tensors))


def new_state(
    model: Model, hyperparameters: TrainingHyperparameters, *, seed: int = 0, execution: Execution | None = None
) -> TrainState[Model]:
    """The state before the first step: the average starts at the pre-trained weights (method.md 3.1).

    Puts the adapter into `model`; `seed` is that of its first values.
    """
    execution = execution or Execution()
    adapt(model, hyperparameters.adapter, seed=seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    if hasattr(model, COMPUTES_IN) and not isinstance(hyperparameters.adapter, FullTuning):
        keep_frozen_in(model, execution.precision)
    optimizer = new_optimizer(trained, hyperparameters, execution.optimizer_state)
    frozen = {id(p): p for p in model.parameters() if not p.requires_grad}  # one copy of it is enough
    average = deepcopy(model, frozen).eval().requires_grad_(False)  # noqa: FBT003  # no name in the library
    return TrainState(
        model=model.train(),
        average=average,
        optimizer=optimizer,
        adapter=hyperparameters.adapter,
        execution=execution,
    )
