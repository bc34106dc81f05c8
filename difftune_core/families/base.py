"""What a model family is: the classes through which training, judging and reports see it.

A family is a folder here, or a distribution of its own (`docs/extending.md`). What differs between families is behind
these classes; everything else is written once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, device, nn

from difftune_core.adapters.select import adapt
from difftune_core.checkpoint.begin import Beginning
from difftune_core.config.adapter import Adapter
from difftune_core.config.card import BaseModelCard
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.data.decoded import Decoded
from difftune_core.evaluate.judge import Judge
from difftune_core.families.base_model import BaseModel
from difftune_core.families.batch import TrainingData
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.painter import Painter
from difftune_core.families.preparation import Preparation
from difftune_core.families.sample_row import SampleRow
from difftune_core.hooks import Hooks, OutcomeEvent

Model = TypeVar("Model", bound=nn.Module)
Installer = Callable[[ImportRequest, Hooks], OutcomeEvent]


@dataclass(frozen=True)
class Delivered(Generic[Model]):
    """A judged model."""

    step: int
    model: Model
    entry: Evaluation
    """Evaluation of the model."""


@dataclass(frozen=True)
class Page:
    """What a family puts into the report of a run."""

    grids: list[dict[str, Any]]
    """Pictures with title and note, the first of them the samples."""
    dataset: dict[str, Any] = field(default_factory=dict)
    """What is to be said of the data set beside its counts."""
    notes: Sequence[str] = ()
    """Sentences that a reader of the figures must know."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """What of the figures' recipe the judge does not know."""
    sections: dict[str, Any] = field(default_factory=dict)
    """Further sections of `report.json`."""


@dataclass
class Task(ABC, Generic[Model]):
    """What one run trains: its rows, its model, its judge, and what is handed over in the end.

    Nothing heavy is loaded before it is asked for.
    """

    preparation: Preparation
    label: ClassVar[str]
    """What a row of the data set has: `class` or `caption`."""
    tuned: Model | None = field(default=None, init=False)
    """The model that is trained, once there is one: what is frozen in it is the base model's, to be shared."""

    @cached_property
    def rows(self) -> tuple[Decoded, Decoded]:
        """Training rows and held-out rows."""
        return self.read()

    def begin(self) -> Model:
        """Make the model that training begins with: `start`, or what becomes of a checkpoint of another run."""
        beginning = self.preparation.beginning
        return self.start() if beginning is None else self.continued(beginning)

    def continued(self, beginning: Beginning) -> Model:
        """Make the model of another run's checkpoint fit this run, without an adapter."""
        return self.open(beginning.folder)

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the run beside base model, config and training data."""
        return {}

    @cached_property
    def data(self) -> TrainingData:
        """What a step of the run reads."""
        return self.load()

    @cached_property
    def judge(self) -> Judge[Model]:
        """The judge, built at the first evaluation."""
        return self.make_judge()

    @abstractmethod
    def read(self) -> tuple[Decoded, Decoded]:
        """Read training rows and held-out rows.

        Raises:
            TaskError: why the data set does not fit.
        """

    @abstractmethod
    def load(self) -> TrainingData:
        """Bring the rows, and the retention set if there is one, to the device."""

    @abstractmethod
    def start(self) -> Model:
        """Make the base model fit this run, without an adapter: a function of base and config."""

    def first_values(self, adapter: Adapter, *, seed: int) -> Iterable[tuple[str, Tensor]]:
        """Give the parameters as they are before the first step, by name, those of the adapter too.

        A family whose models are large gives them one after the other, without building a second model.
        """
        return adapt(self.start(), adapter, seed=seed).named_parameters()

    def networks_beside(self) -> Sequence[nn.Module]:
        """Give the frozen networks that a step calls beside the one that is trained."""
        return ()

    @abstractmethod
    def open(self, checkpoint: Path) -> Model:
        """Load the model of a checkpoint."""

    @abstractmethod
    def write_config(self, model: Model, folder: Path, adapter: Adapter | None) -> None:
        """Write `config.json` beside a checkpoint's weights, with the adapter if it is still inside."""

    @abstractmethod
    def make_judge(self) -> Judge[Model]:
        """Build the judge, with its own images of the base model."""

    @abstractmethod
    def page(self, result: Delivered[Model], evaluations: Sequence[Evaluation]) -> Page:
        """Draw and tell what the report shows of the delivered model."""

    def sample_row(self, count: int) -> SampleRow[Model] | None:
        """Say what is drawn on the way, `count` images if there are as many; None where nothing is."""
        del count
        return None

    def remarks(self, evaluations: Sequence[Evaluation]) -> list[str]:
        """Say what the log should have of the evaluations as a whole."""
        del evaluations
        return []

    def export(self, result: Delivered[Model], out: Path) -> list[tuple[str, Path]]:
        """Write the delivered model for other programs; by kind of artifact, the files in `out`."""
        del result, out
        return []

    def export_card(self, step: int, **own: Any) -> dict[str, Any]:
        """Say in an export where it comes from; `own` is what the family adds."""
        base, beginning = self.preparation.base, self.preparation.beginning
        lineage = {} if beginning is None else {"lineage": [one.model_dump() for one in beginning.origin.lineage]}
        return {
            "base_model": base.card.id,
            "base_digest": base.card.digest,
            **lineage,
            **own,
            "method": self.preparation.config.method.model_dump(mode="json"),
            "step": step,
            "licence": base.card.licence,
        }


@dataclass(frozen=True)
class Family:
    """A kind of base model."""

    base_model: Callable[[Path, BaseModelCard], BaseModel]
    """Opens a base model's folder."""
    task: Callable[[Preparation], Task[Any]]
    """Makes the task of a run; finds out what the config names that is not there."""
    painter: Callable[[BaseModel, Path | None, device], Painter] | None = None
    """Loads a base model, or a checkpoint that was tuned from it, to draw images; None where it draws none on request.
    """
    installers: Mapping[str, Installer] = field(default_factory=dict)
    """What brings a model in, by each kind that an operator can import."""
