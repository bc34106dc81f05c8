"""`chain.json`: the report of an analysis of the chain of forgetting."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from difftune_core.config.reports.evaluation import Judged, Number
from difftune_core.config.reports.record import Described, OrEmpty, Record
from difftune_core.config.reports.run import Recipe

SCHEMA_VERSION: Final = 1


class ChainPoint(Judged):
    """Figures of images whose last steps were the base model's. All but the first have `fid_change`."""

    fraction: Number
    """Share of the steps that the base model took, those next to the data."""
    base_steps: int | None = None
    """The share as a number of steps."""


class ChainMinimum(Record):
    """The share with the lowest FID."""

    fraction: Number
    fid: Number
    fid_change: Number
    """Difference to the tuned model alone, paired by noise."""
    fid_change_interval: tuple[Number, Number]
    """95 % over all shares together."""
    is_below_tuned: bool
    """Whether the best FID lies below that of the tuned model alone beyond the error."""
    worse_from: Number | None
    """The smallest share at which FID lies above that of the tuned model alone beyond the error."""


class ChainCheckpoint(Record):
    """The chain of one checkpoint."""

    name: str
    step: int | None = None
    digest: str = ""
    """sha256 of the weights."""
    points: tuple[ChainPoint, ...]
    """The figures by share, rising from 0."""
    minimum: ChainMinimum


class ChainReport(Record):
    """The report of an analysis of the chain of forgetting."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this schema."""
    about: Annotated[dict[str, Any], OrEmpty] = Field(default_factory=dict)
    """Whose report it is."""
    type: str = "chain_of_forgetting"
    """The kind of analysis."""
    base_model: Described
    """Id and digest of the base model."""
    class_names: tuple[str, ...]
    fractions: tuple[Number, ...]
    """Shares of the reverse chain that were handed over."""
    comparable_with_published: bool
    """Whether the figures are over features that publications use."""
    recipe: Recipe
    environment: Described = Field(default_factory=dict)
    """What the report was made with."""
    checkpoints: tuple[ChainCheckpoint, ...]
