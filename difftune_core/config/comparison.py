"""Which runs a comparison is made of: the config of `python -m difftune_core compare`. Pydantic only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from difftune_core.config.frozen import Frozen

MAX_METHODS, MAX_SEEDS = 8, 20
MethodName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._=+-]{0,39}$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class MissingRun(Frozen):
    """A run that was asked for and cannot be compared."""

    method: MethodName
    seed: Seed
    reason: str
    """Why, in words for the reader of the report."""


class ComparisonConfig(Frozen):
    """What is compared: finished runs of several methods, a run of each method for each seed."""

    methods: Annotated[list[MethodName], Field(min_length=2, max_length=MAX_METHODS)]
    """Names, in the order of the report; the first of a pair is what the other is compared with."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MAX_SEEDS)]
    """Runs of one seed are paired."""
    missing: tuple[MissingRun, ...] = Field(default=(), strict=False)
    """Runs that did not succeed. Others without a report are found missing by themselves."""

    @model_validator(mode="after")
    def _unique(self) -> ComparisonConfig:
        if len(set(self.methods)) < len(self.methods) or len(set(self.seeds)) < len(self.seeds):
            raise PydanticCustomError("not_unique", "methods and seeds must not repeat")
        return self
