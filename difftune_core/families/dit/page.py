"""What the report of a DiT's run shows: samples by class, what is left of the base model, and notes on the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from difftune_core.data.decoded import Images
from difftune_core.evaluate.grids import by_class, image_grid, scale_for
from difftune_core.evaluate.report.pictured import PICTURED, one_a_column
from difftune_core.families.dit.judge import DiTJudge
from difftune_core.interruption import Listen, after
from difftune_core.networks.dit import DiT

_ROWS = 8  # images of each class in a grid, at most


def grids_of(
    model: DiT, judge: DiTJudge, held_out: Images, class_names: Sequence[str], listen: Listen
) -> list[dict[str, Any]]:
    """Draw samples, held-out images, the null branch and the base model's images, a class a column."""
    model = model.to(judge.device)
    classes = min(model.config.num_classes, PICTURED)
    rows = max(1, min(_ROWS, judge.num_images // classes))  # no more than an evaluation draws, but one of each class
    labels = torch.arange(classes).repeat(rows)
    null = torch.full((max(1, classes * rows // 2),), model.null_label)
    progress = listen(len(labels) + len(null))
    samples = judge.draw(model, labels, progress)
    remembered = judge.draw(model, null, after(len(labels), progress))
    scale = scale_for(classes, samples.shape[1])
    real = by_class(held_out.pixels, held_out.labels.tolist(), classes, _ROWS, scale)
    columns = {"columns": list(class_names[:classes]), "note": one_a_column(len(class_names))}
    source = judge.source[: len(remembered)]
    return [
        {"title": "Samples of the tuned model", "image": image_grid(samples, classes, scale), **columns},
        *([{"title": "Held-out images", "image": real, **columns}] if real is not None else []),
        {"title": "Null branch of the tuned model", "image": image_grid(remembered, classes, scale)},
        {"title": "Images of the base model", "image": image_grid(source, classes, scale)},
    ]
