"""A `DiTPipeline` whose last steps another transformer takes: the tuned model begins an image, its base model ends it.

This file travels with an export and needs nothing but diffusers and torch: with its folder on the path,
`from handover_pipeline import HandOverDiTPipeline` and `HandOverDiTPipeline.from_pretrained(FOLDER)`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers.pipelines.dit.pipeline_dit import DiTPipeline

NULL_LABEL = 1000


class HandOver(torch.nn.Module):
    """A transformer for the first steps and another one, without a class, for those below a time."""

    def __init__(self, first: Any, last: Any, below: float) -> None:
        """Wrap both networks."""
        super().__init__()
        self.first, self.last, self.below = first, last, below
        self.config, self.dtype, self.device = first.config, first.dtype, first.device

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, class_labels: torch.Tensor) -> SimpleNamespace:
        """Give the output of the one whose step it is."""
        if float(timestep.reshape(-1)[0]) < self.below:
            null = torch.full_like(class_labels, NULL_LABEL)
            return SimpleNamespace(sample=self.last(latents, timestep=timestep, class_labels=null).sample)
        return SimpleNamespace(sample=self.first(latents, timestep=timestep, class_labels=class_labels).sample)


class HandOverDiTPipeline(DiTPipeline):  # type: ignore[misc]  # diffusers is untyped
    """Draws as `DiTPipeline` does, and hands the last share of the steps over to `base_transformer`."""

    def __init__(
        self,
        transformer: Any,
        vae: Any,
        scheduler: Any,
        *,
        base_transformer: Any,
        id2label: dict[int, str] | None = None,
        handover: float = 0.0,
    ) -> None:
        """Register both transformers."""
        super().__init__(transformer, vae, scheduler, id2label=id2label)
        self.register_modules(base_transformer=base_transformer)
        self.register_to_config(id2label=id2label, handover=handover)

    def __call__(self, *args: Any, handover: float | None = None, num_inference_steps: int = 50, **options: Any) -> Any:
        """Draw; `handover` in place of the export's own share, 0 for the tuned model alone."""
        share = self.config.handover if handover is None else handover
        self.scheduler.set_timesteps(num_inference_steps)
        rising = sorted({float(time) for time in self.scheduler.timesteps})
        count = int(share * len(rising) + 0.5)
        if count == 0:
            return super().__call__(*args, num_inference_steps=num_inference_steps, **options)
        below = sum(rising[count - 1 : count + 1]) / len(rising[count - 1 : count + 1])
        tuned = self.transformer
        both = HandOver(tuned, self.base_transformer, below if count < len(rising) else float("inf"))
        object.__setattr__(self, "transformer", both)  # for this call: no component of the pipeline
        try:
            return super().__call__(*args, num_inference_steps=num_inference_steps, **options)
        finally:
            object.__setattr__(self, "transformer", tuned)
