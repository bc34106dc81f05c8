"""What an analysis of tuned models looks at. Pydantic only: the API imports this module."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.frozen import Frozen
from difftune_core.config.model_ids import ModelId, NamedModel, named_models

MAX_CHECKPOINTS = 4
_TENTHS = [i / 10 for i in range(11)]


def _rising_from_zero(fractions: list[float]) -> list[float]:
    if fractions[0] != 0 or any(a >= b for a, b in pairwise(fractions)):
        raise PydanticCustomError(
            "fractions", "fractions must rise from 0, the tuned model alone, which is compared with"
        )
    return fractions


Fractions = Annotated[
    list[Annotated[float, Field(ge=0, le=1)]],
    Field(min_length=2, max_length=101),
    AfterValidator(_rising_from_zero),
]


class ChainOfForgetting(Frozen):
    """Hand the last part of the reverse chain to the base model: FID against its share (Diff-Tuning, Fig. 1)."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    type: Literal["chain_of_forgetting"] = "chain_of_forgetting"
    """The kind of analysis."""
    model: ModelId
    """Id of the base model of every checkpoint."""
    fractions: Fractions = _TENTHS
    """Shares of the reverse steps, those next to the data, that the base model takes; rising, the first is 0."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the training jobs: without a validation file it decides which images were held out."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How images are drawn and judged. Left out: the defaults of the base model's card."""
    num_threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """CPU threads; null: one."""

    def models(self) -> tuple[NamedModel, ...]:
        """All models that the config names."""
        return tuple(named_models(self.model_dump()))
