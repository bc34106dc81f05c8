"""`comparison.json`: the joint report of finished runs of several methods."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from difftune_core.config.reports.evaluation import Convergence, Evaluation, Number
from difftune_core.config.reports.record import Described, OrEmpty, Record
from difftune_core.config.reports.run import Dataset, Recipe, ShortcomingTold

SCHEMA_VERSION: Final = 1


class SpreadTold(Record):
    """One figure over seeds."""

    mean: Number | None
    sd: Number | None = None
    """Standard deviation with n - 1; null for one seed."""
    n: int
    """Number of the seeds."""
    low: Number | None = None
    high: Number | None = None


class MethodSpread(SpreadTold):
    """One figure of one method."""

    values: dict[str, Number] = Field(default_factory=dict)
    """The values by seed."""


class CurvePoint(SpreadTold):
    """One figure of one method at one step."""

    step: int
    target_images: Number | None = None
    """Mean count of target images that had entered a step."""


class PairTold(Record):
    """`second - first` over the seeds that both methods have."""

    first: str
    second: str
    seeds: tuple[int, ...] = ()
    n: int
    difference: Number
    """Mean difference."""
    sd: Number | None = None
    interval: tuple[Number, Number] | None = None
    """95 % confidence interval of the mean difference by the paired t distribution."""
    p_t: Number | None = None
    """Two-sided, paired t test."""
    p_sign_flip: Number | None = None
    """Two-sided, exact."""
    smallest_p: Number | None = None
    """What the exact test can reach at best with this many seeds."""
    p_t_holm: Number | None = None
    """The t test's p value, corrected over the pairs of this figure."""
    p_sign_flip_holm: Number | None = None
    steps: tuple[int, int] | None = None
    """The steps at which the two have seen as many target images, if they are compared there."""
    target_images: tuple[Number, Number] | None = None


class FigureTold(Record):
    """One figure of all methods."""

    label: str
    meaning: str
    lower_is_better: bool | None
    """Whether lower is better; null: neither way is."""
    methods: dict[str, MethodSpread] = Field(default_factory=dict)
    """The figure at the end of training."""
    pairs: tuple[PairTold, ...] = ()
    """The figure at the end of training."""
    equal_target_images: tuple[PairTold, ...] = ()
    """The figure where both methods have seen as many target images."""


class EqualImagesTold(Record):
    """The steps at which two methods have seen as many target images."""

    first: str
    second: str
    steps: tuple[int, int] | None
    """Steps of both methods; null: no evaluation is near enough."""
    target_images: tuple[Number, Number]


class SavedTold(SpreadTold):
    """Share of the first method's steps that the second saves."""

    first: str
    second: str
    num_pairs: int


class MethodTold(Record):
    """A method of the comparison."""

    name: str
    seeds: tuple[int, ...]
    type: str | None = None
    hyperparameters: Described = Field(default_factory=dict)
    trainable_parameters: int | None = None


class RunTold(Record):
    """One run's delivered evaluation."""

    method: str
    seed: int
    evaluation: Evaluation


class MissingTold(Record):
    """A run that was asked for and is not compared."""

    method: str
    seed: int
    reason: str


class RunShortcoming(ShortcomingTold):
    """Something of one run's result that a reader should know before all else."""

    method: str
    seed: int


class ComparisonReport(Record):
    """The joint report of finished runs."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this schema."""
    about: Annotated[dict[str, Any], OrEmpty] = Field(default_factory=dict)
    """Whose report it is."""
    methods: tuple[MethodTold, ...]
    """The methods in the order in which they were asked for."""
    seeds: tuple[int, ...]
    paired_seeds: tuple[int, ...]
    """The seeds of which at least two methods have a run."""
    missing: tuple[MissingTold, ...] = ()
    shortcomings: tuple[RunShortcoming, ...] = ()
    """What each run's own report says of its result."""
    model: Described = Field(default_factory=dict)
    """The base model's id and digest."""
    dataset: Dataset = Dataset()
    control: Described = Field(default_factory=dict)
    """The condition of ControlNets; null of models that draw classes."""
    recipe: Recipe = Recipe()
    figures: dict[str, FigureTold]
    """The figures by key."""
    equal_target_images: tuple[EqualImagesTold, ...] = ()
    """The comparison at equal target images of pairs of methods that have not seen as many at their ends."""
    references: dict[str, dict[str, SpreadTold]] = Field(default_factory=dict)
    """What figures are read beside, by name and figure."""
    curves: dict[str, dict[str, tuple[CurvePoint, ...]]] = Field(default_factory=dict)
    """The curves by figure and method."""
    convergence: dict[str, dict[str, Convergence]] = Field(default_factory=dict)
    """The sudden convergence of ControlNets, by method and seed."""
    steps_saved: tuple[SavedTold, ...] = ()
    """The share of steps saved to sudden convergence."""
    steps_saved_to_equal_scores: tuple[SavedTold, ...] = ()
    training: dict[str, dict[str, list[tuple[Number, Number]]]] = Field(default_factory=dict)
    """Logged series by name and method: [step, mean over seeds]."""
    retention_loss_by_t: dict[str, tuple[SpreadTold, ...]] = Field(default_factory=dict)
    """Loss on the base model's images in equal bins of t, by method."""
    runs: tuple[RunTold, ...]
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the figures must know."""

    @property
    def names(self) -> list[str]:
        """The methods' names."""
        return [method.name for method in self.methods]
