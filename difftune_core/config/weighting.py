"""Weights of the loss by t, and the settings that recipes of our own have. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from difftune_core.config.frozen import Frozen

LossWeighting = Literal["none", "min_snr", "p2", "psi"]
Decay = Literal["none", "linear", "cosine"]


class WeightedSettings(Frozen):
    """Settings of the recipe `weighted`, stated as `recipe_settings`."""

    weighting: LossWeighting = "p2"
    """Weight of the target's loss by t, divided by its mean over t; `psi` has the method's `tau`."""
    share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the batch that is retention, rounded down; 0 retains nothing."""
    weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the retention loss, at the first step."""
    decay: Decay = "none"
    """How that weight falls to 0 by the last step: not at all, along a line, or half a cosine wave."""


_Share = Annotated[float, Field(ge=0, le=1)]


def _rising(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] >= interval[1]:
        raise PydanticCustomError("interval", "interval must rise, as [0.1, 0.8] does")
    return interval


class DogFitSettings(Frozen):
    """Settings of the recipe `dogfit`, stated as `recipe_settings`."""

    scale: Annotated[float, Field(ge=1, le=20)] = 1.5
    """Scale of the Domain Guidance that is learned; 1 is plain fine-tuning. Draw with `evaluation.guidance: none`."""
    start: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Share of the steps before it is learned: at first the network knows no target to be guided to."""
    interval: Annotated[tuple[_Share, _Share], Field(strict=False), AfterValidator(_rising)] = (0.0, 1.0)
    """Noise levels, t/T, within which it is learned."""
