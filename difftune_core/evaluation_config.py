"""How a tuned model is judged: part of the transfer config. Pydantic only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from difftune_core.frozen import Frozen
from difftune_core.sampling_config import Guidance, Sampler


class EvaluationConfig(Frozen):
    """How the tuned model (its weight average) is judged; FID is against the held-out set where there is one."""

    num_images: Annotated[int, Field(ge=2, le=1_000_000)] = 10_000
    """Images sampled for FID and KID, with the target's classes in equal shares."""
    sampler: Sampler = "ddim"
    """Reverse process."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps per image."""
    guidance_scale: Annotated[float, Field(ge=1, le=20)] = 1.5
    """Classifier-free guidance, 1 for none."""
    guidance: Guidance = "cfg"
    """Whose null branch is guided away from: the tuned model's (`cfg`), the base model's (`domain`, Domain Guidance), or
    none's.

    Retention trains the null branch, and so changes what `cfg` does; `domain` and `none` are the controls.
    """
    other_guidance: Annotated[tuple[Guidance, ...], Field(max_length=3, strict=False)] = ()
    """Guidances by which the delivered model's FID and KID are measured too, at the end, from the same seeds."""
    every_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Also evaluate each time this many steps are done; null evaluates the end only."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the sampled images; equal seeds give paired comparisons."""
    holdout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each class held out of training for evaluation where there is no validation file."""
