"""Images that are drawn on the way, to look at: part of the transfer config. Pydantic only."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from difftune_core.config.frozen import Frozen
from difftune_core.hooks import TaskError

MOST_FILES = 1000
"""Most files of a job's sample images, where they are asked for every so many steps."""
_MOST_BY_DEFAULT = 100
FEWEST_IMAGES = 4
_NUM_IMAGES = (8, FEWEST_IMAGES)
"""Images by default: as many as the share allows."""
_SHARE = 0.03
"""Share of a run's passes through the network that may go into images by default."""
_PASSES_OF_TRAINING = 3
"""Passes of an image in a step: forward, and backward, which is about two."""
_PASSES_OF_SAMPLING = 2
"""Passes of an image in a denoising step: with a condition and without."""
_SMALL = 50_000_000
"""Parameters of a model whose images are drawn by default however short the run is."""


class SamplesConfig(Frozen):
    """A few images from the same noise and the same labels (of a ControlNet: held-out prompts and controls) each time.

    They change nothing of what is trained.
    """

    num_images: Annotated[int, Field(ge=0, le=64)] | None = None
    """Images each time; 0 draws none. Null: 8, or 4 where 8 would take more than 3 % of the run's passes through the
    network; none of a large model whose run is so short that at its beginning and end alone they would."""
    every_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Steps between images; null: at each checkpoint and each evaluation, or, by the same share, at each checkpoint.
    At step 0 and at the last step always."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 8
    """Denoising steps, few because the images are for a look. Sampler: the default one of the model's process; guidance
    and seed: those of `evaluation`."""

    def is_due(self, step: int, last: int, *marked: int | None) -> bool:
        """Return whether images belong to a step; `marked`: the steps between checkpoints and between evaluations."""
        if not self.num_images:
            return False
        if step in {0, last}:
            return True
        every = marked if self.every_steps is None else (self.every_steps,)
        return any(step % steps == 0 for steps in every if steps is not None)


def completed_samples(
    given: SamplesConfig, *, steps: int, batch_size: int, marked: tuple[int | None, ...], is_small: bool
) -> SamplesConfig:
    """Fill in how many images are drawn, and how often where that would be too often.

    Args:
        given: as stated.
        steps: of the run.
        batch_size: images of a step.
        marked: steps between checkpoints, and between evaluations.
        is_small: whether drawing takes no time to speak of.

    Raises:
        TaskError: `invalid_option`, they would be too many files.
    """
    if given.every_steps is not None and steps // given.every_steps > MOST_FILES:
        message = f"{steps} steps by {given.every_steps} are more than {MOST_FILES} files of sample images"
        raise TaskError("invalid_option", message, "samples.every_steps")
    settings = given
    if given.every_steps is None and sum(steps // every for every in marked if every) > _MOST_BY_DEFAULT:
        settings = given.model_copy(update={"every_steps": math.ceil(steps / _MOST_BY_DEFAULT)})
    if given.num_images is not None:
        return settings
    choices = [(count, settings.every_steps) for count in _NUM_IMAGES]
    if settings.every_steps is None:
        choices.append((FEWEST_IMAGES, marked[0]))
    fallback = choices[-1] if is_small else (0, settings.every_steps)
    if given.every_steps is None and not is_small:
        choices.append((FEWEST_IMAGES, steps))  # at both ends
    passes = _SHARE * _PASSES_OF_TRAINING * batch_size * steps / (_PASSES_OF_SAMPLING * given.num_inference_steps)
    for count, every in choices:
        if count * _times(steps, marked if every is None else (every,)) <= passes:
            return settings.model_copy(update={"num_images": count, "every_steps": every})
    count, every = fallback
    return settings.model_copy(update={"num_images": count, "every_steps": every})


def is_small(num_parameters: int) -> bool:
    """Return whether drawing takes no time to speak of; a model whose size is not known is taken for one of those."""
    return num_parameters <= _SMALL


def _times(steps: int, every: tuple[int | None, ...]) -> int:
    """Return how often images are drawn."""
    return len({0, steps, *(step for gap in every if gap for step in range(0, steps + 1, gap))})
