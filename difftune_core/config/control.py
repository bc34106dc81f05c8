"""What a ControlNet is taught to follow: part of the transfer config of Stable Diffusion models. Pydantic only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from difftune_core.config.conditions import ConditionName, ControlCondition, find_condition
from difftune_core.config.frozen import Frozen
from difftune_core.config.model_ids import ModelId


class ControlConfig(Frozen):
    """A ControlNet's condition, where it starts, and how closely its results are compared with their controls."""

    condition: ConditionName
    """What control images show: `edge` (Canny), `sketch`, `depth`, `normal` or `segmentation`."""
    annotator: ModelId | None = None
    """Id of the network that draws depth, normal or segmentation of pictures: of the retention set's, of results to
    compare them with their controls, and of a data set that has no control images. Null: the base model's card's."""
    init_from: ModelId | None = None
    """Id of an imported ControlNet to go on from. Null: a copy of the UNet's encoder with zero convolutions."""
    default_prompt: Annotated[str, Field(max_length=1000)] | None = None
    """The prompt of the retention set's images, sampled and trained (App. B.2). Null: the base model's card's."""
    prompt_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that a target image is trained with the empty prompt, so that the control is heeded by itself."""
    num_validation: Annotated[int, Field(ge=2, le=10_000)] = 16
    """Held-out rows from whose controls images are drawn at each evaluation, always the same with the same noise."""
    conditioning_scale: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Factor of the ControlNet's output when images are drawn."""

    @property
    def definition(self) -> ControlCondition:
        """Definition of the condition.

        Raises:
            TaskError: `condition_unknown`, nothing that is installed brings it.
        """
        return find_condition(self.condition)
