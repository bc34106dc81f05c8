"""What the report of a ControlNet's run shows: how results follow their controls, and what the base keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from difftune_core.config.conditions import find_condition
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.evaluate.best import is_higher_better
from difftune_core.evaluate.convergence import Convergence, sudden_convergence
from difftune_core.evaluate.grids import image_grid, scale_for
from difftune_core.evaluate.report.pictured import FOLLOWING
from difftune_core.families.controlnet.judge import ControlNetJudge
from difftune_core.interruption import Listen, after

_SHOWN = 8  # validation rows in a grid


def convergence_of(condition: str, evaluations: Sequence[Evaluation]) -> Convergence:
    """Find the step of sudden convergence, by the evaluations up to now."""
    metric = find_condition(condition).figures[0]
    scores = {entry.step: value for entry in evaluations if (value := entry.value(metric)) is not None}
    return sudden_convergence(list(scores), list(scores.values()), higher_is_better=is_higher_better(metric))


def cut_captions(judge: ControlNetJudge) -> list[str]:
    """Tell of validation captions that the CLIP model does not see whole."""
    count = 0 if judge.clip is None else judge.clip.num_truncated(judge.captions[: judge.num_validation])
    told = f"{count} validation captions are longer than the CLIP model takes; it does not see their ends."
    return [told] if count else []


def grids_of(controlnet: nn.Module, judge: ControlNetJudge, listen: Listen) -> list[dict[str, Any]]:
    """Draw control, result, the control drawn anew, and the held-out image, a row each."""
    count = min(_SHOWN, judge.num_validation)
    progress = listen(2 * count)
    images = judge.draw(controlnet, torch.arange(count), progress)
    empty = judge.remembered(controlnet, count, after(count, progress))
    strips = [judge.controls(count), images, judge.annotate(images), judge.real[:count]]
    scale = scale_for(count, images.shape[1])
    following = image_grid(np.concatenate(strips), count, scale)
    left = image_grid(np.concatenate([judge.source_images[:count], empty]), count, scale)
    return [
        {
            "title": "How results follow their controls",
            "image": following,
            "rows": FOLLOWING,
            "note": f"one of the first {count} validation rows a column; drawn anew: the control of the result",
        },
        {
            "title": "What is left of the base model",
            "image": left,
            "rows": ["base model", "empty control"],
            "note": "one noise a column",
        },
    ]
