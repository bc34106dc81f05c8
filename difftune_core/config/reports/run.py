"""`report.json`: the report of a job."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from difftune_core.config.reports.evaluation import Convergence, Evaluation, Judged, Number
from difftune_core.config.reports.record import Described, OrEmpty, Record

SCHEMA_VERSION: Final = 1
Point = tuple[Number, Number | None]


class Recipe(Record):
    """How every figure was made. Figures of different recipes cannot be compared."""

    feature_extractor: str = "unknown"
    """Id of the network behind FID and KID."""
    feature_extractor_digest: str | None = None
    """Digest of the extractor's weights and its way to prepare images."""
    num_generated: int | None = None
    """Images that are drawn."""
    num_real: int | None = None
    """Held-out images."""
    num_validation: int | None = None
    """Images of an evaluation of a ControlNet."""
    reference_set_digest: str | None = None
    """Digest of the held-out images."""
    crop: str | None = None
    """How the images were made square, where that is not by cutting the middle."""
    sampling: Described = Field(default_factory=dict)
    """Reverse process, steps, guidance, seed."""
    weights: str | None = None
    """`ema` or `raw`."""
    other_feature_extractors: Annotated[dict[str, str], OrEmpty] = Field(default_factory=dict)
    """Digests of those whose `fd_<id>` is measured, by id."""
    metrics: tuple[str, ...] = ()
    """What was measured beside FID and KID."""

    @property
    def is_of_our_own(self) -> bool:
        """Whether the features are those of a small network of our own, not comparable with published figures."""
        return self.feature_extractor.startswith("tiny")


class Dataset(Record):
    """The images of the run."""

    class_names: tuple[str, ...] = ()
    """Names of the classes of a model that draws classes."""
    num_train: int | None = None
    """Training images."""
    num_held_out: int | None = None
    """Held-out images."""
    num_shared: int | None = None
    """Held-out images that are trained on too; reports of 0.3.0 and earlier do not say."""
    digest: str | None = None
    """Digest of the training images."""


class Best(Record):
    """Which evaluation was the best."""

    metric: str
    """The figure by which the evaluation is the best."""
    step: int
    value: float | None


class ShortcomingTold(Record):
    """Something of the result that its owner should know before all else."""

    code: str
    """`delivered_worse`: an earlier checkpoint or the base model is better than the result, beyond the error."""
    message: str
    """The shortcoming as a sentence."""


class AncestorTold(Record):
    """A checkpoint that the run comes from."""

    checkpoint: str
    """Id of the checkpoint."""
    job: str = ""
    """Id of the job that made the checkpoint; empty where that is not known."""
    step: int
    """Step of that job."""


class GridTold(Record):
    """A picture of the page."""

    title: str
    width: int
    height: int


class RunReport(Record):
    """The report of a job. What a run does not have is left out or empty."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this schema; reports of 0.3.0 and earlier have none and are of version 1."""
    about: Annotated[dict[str, Any], OrEmpty] = Field(default_factory=dict)
    """Whose report it is: id, name and data of the job."""
    job: Described = Field(default_factory=dict)
    """The resolved config, as `POST /v1/fine_tuning/jobs` takes it."""
    lineage: tuple[AncestorTold, ...] = ()
    """The checkpoint that the run began with, the one that its own run began with, and so on; empty for a run that
    began with the base model."""
    model: Described = Field(default_factory=dict)
    """The base model's card, `parameters` and `trainable_parameters`."""
    dataset: Dataset = Dataset()
    retention_set: Described = Field(default_factory=dict)
    """What was retained with, if anything."""
    curves: dict[str, list[Point]] = Field(default_factory=dict)
    """Logged series: [step, value] by name."""
    evaluations: tuple[Evaluation, ...] = ()
    """The evaluations in the order of their steps."""
    convergence: Convergence | None = None
    """When the results of a ControlNet began to follow their controls."""
    delivered_step: int | None = None
    """The step whose model is the result; null in reports that do not say: the last one's."""
    best: Best | None = None
    """The best evaluation by `evaluation.best_metric`."""
    shortcomings: tuple[ShortcomingTold, ...] = ()
    """What is better than the result."""
    references: dict[str, Judged] = Field(default_factory=dict)
    """What the figures are to be read beside: `base_model`, `real_vs_real`, `training_set`,
    `autoencoder_floor`."""
    grids: tuple[GridTold, ...] = ()
    """The page's pictures."""
    recipe: Recipe = Recipe()
    environment: Described = Field(default_factory=dict)
    """What the run was made with."""
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the figures must know."""

    @property
    def result(self) -> Evaluation | None:
        """The evaluation of what is delivered, which is the last one unless the report names another step."""
        named = [entry for entry in self.evaluations if entry.step == self.delivered_step]
        found = named or list(self.evaluations)
        return found[-1] if found else None

    @property
    def is_controlled(self) -> bool:
        """Whether the run trained a ControlNet."""
        return bool(self.job.get("control"))

    @property
    def method(self) -> str:
        """The method's type."""
        return str(self.job.get("method", {}).get("type", ""))

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The method's settings."""
        method = self.job.get("method", {})
        return dict(method.get(self.method, {}).get("hyperparameters", {}))

    def reference(self, name: str) -> Judged:
        """Return a reference, an empty one where the report has none."""
        return self.references.get(name, Judged())

    def base_value(self, key: str) -> float | None:
        """Return the base model's own figure, as a reference or beside the result."""
        found = self.reference("base_model").value(key)
        return found if found is not None or self.result is None else self.result.value(f"{key}_base")
