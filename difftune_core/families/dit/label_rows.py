"""From the source's label table to the target's K classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from difftune_core.config.transfer import MAX_CLASSES
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT


def with_classes(source: DiT, num_classes: int, rows: Literal["reuse_rows", "mean", "null"]) -> DiT:
    """The same weights with a table of `num_classes` rows; the source's null row stays the null row.

    Args:
        source: the pre-trained model.
        num_classes: K, classes of the target.
        rows: how class rows start: `reuse_rows` takes source row k for class k (wrapping around where K is larger),
            `mean` the mean of all source classes, `null` the null row.

    Raises:
        TaskError: `too_many_classes` where K exceeds 1000, DiTPipeline's null label.
    """
    if num_classes > MAX_CLASSES:
        message = f"{num_classes} classes, at most {MAX_CLASSES}: exports keep row {MAX_CLASSES} for the null label"
        raise TaskError("too_many_classes", message, "training_file")
    table = source.y_embedder.embedding_table.weight.detach()
    classes, null = table[:-1], table[-1:]
    chosen = {
        "reuse_rows": classes[torch.arange(num_classes) % len(classes)],
        "mean": classes.mean(0, keepdim=True).expand(num_classes, -1),
        "null": null.expand(num_classes, -1),
    }[rows]
    with torch.device("meta"):
        model = DiT(replace(source.config, num_classes=num_classes))
    state = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
    state["y_embedder.embedding_table.weight"] = torch.cat([chosen, null]).clone()
    model.load_state_dict(state, assign=True)
    model.pos_embed = nn.Parameter(model.pos_embed.detach(), requires_grad=False)
    return model


def told_of_rows(num_classes: int, num_source: int, rows: Literal["reuse_rows", "mean", "null"]) -> str:
    """What `with_classes` did to the table, for the report."""
    if rows == "null":
        return f"The rows of the {num_classes} classes started as the base model's null row."
    if rows == "mean":
        return f"The rows of the {num_classes} classes started as the mean of the base model's {num_source}."
    last = min(num_classes, num_source) - 1
    said = f"The rows of the {num_classes} classes started as the base model's rows 0 to {last}"
    return f"{said}, from class {num_source} on from row 0 again." if num_classes > num_source else f"{said}."
