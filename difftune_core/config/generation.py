"""What one request for images asks for, complete: the child process is told no more. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from difftune_core.config.evaluation import GuidanceInterval
from difftune_core.config.frozen import Frozen
from difftune_core.config.model_ids import ModelId
from difftune_core.config.sampling import Guidance, Sampler

MAX_IMAGES = 1024
MAX_PROMPT = 1000
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class GenerationConfig(Frozen):
    """Images of one class or prompt, by one model."""

    schema_version: Literal[1] = 1
    model: ModelId
    """Id of the base model."""
    num_images: Annotated[int, Field(ge=1, le=MAX_IMAGES)] = 1
    label: Annotated[int, Field(ge=0)] | None = None
    """The class, of a model that draws classes; null draws without one."""
    prompt: Annotated[str, Field(max_length=MAX_PROMPT)] | None = None
    """The prompt, of a model that draws prompts."""
    conditioning_scale: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How strongly a ControlNet follows its control image."""
    compare_to_base: bool = False
    """Whether the base model draws too, from the same noise."""
    seed: Seed = 0
    sampler: Sampler = "ddim"
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    guidance_scale: Annotated[float, Field(ge=1, le=20)] = 1.5
    guidance: Guidance = "cfg"
    guidance_interval: GuidanceInterval = (0.0, 1.0)
    guided_channels: Annotated[int, Field(ge=1, le=1024)] | None = None
    handover: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the chain that the base model ends; of a tuned model that draws classes."""
    noise_guidance_scale: Annotated[float, Field(ge=1, le=20)] = 1.0
    """Noise Awareness Guidance; of a tuned model that was trained with a `time_dropout`."""
    num_threads: Annotated[int, Field(ge=1)] | None = None

    @property
    def total(self) -> int:
        """Images that are drawn, those of the base model too."""
        return self.num_images * (1 + self.compare_to_base)
