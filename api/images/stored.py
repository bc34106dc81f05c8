"""What a generation's row says of it: written once, read by the API and by workers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from api.images.kind import Generation
from difftune_core.config.generation import GenerationConfig
from difftune_core.config.stored import read_stored


class Stored(BaseModel):
    """`config` of a generation."""

    model_config = ConfigDict(frozen=True)
    asked_model: str
    """The model as the user named it: a base model or a checkpoint."""
    checkpoint: str | None = None
    image_size: int
    class_name: str | None = None
    control_image: str | None = None
    """Id of the control image's file."""
    drawing: dict[str, Any]
    """The complete `GenerationConfig`."""

    @property
    def generation(self) -> GenerationConfig:
        """`drawing` as this version reads it."""
        return read_stored(GenerationConfig, self.drawing)

    @classmethod
    def of(cls, row: Generation) -> Stored:
        """Return what the row says."""
        return cls.model_validate(row.config)
