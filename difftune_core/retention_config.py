"""How a retention set comes about: part of the transfer config. Pydantic only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from difftune_core.frozen import Frozen
from difftune_core.sampling_config import Sampler


class RetentionSetConfig(Frozen):
    """How images are sampled from the base model before tuning (the paper's memory bank)."""

    num_images: Annotated[int, Field(ge=1, le=2_000_000)] = 5000
    """Images to sample. 5,000 already help in the paper (Fig. 6d)."""
    sampler: Sampler = "ddim"
    """Reverse process."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps per image; the paper found this to matter little (Fig. 7a)."""
    guidance_scale: Annotated[float, Field(ge=1, le=20)] = 1.5
    """Classifier-free guidance, 1 for none: e_null + s (e_class - e_null)."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the images; jobs with equal settings share one retention set."""
