"""Weights of the loss by t, and the settings of the recipe that has them beside retention. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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
