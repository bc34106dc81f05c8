"""Makes the target's K label rows of the source's label table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from difftune_core.config.transfer import MAX_CLASSES
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT

Rule = Literal["reuse_rows", "mean", "null"]
"""How class rows start: `reuse_rows` takes source row k for class k (wrapping around where K is larger), `mean` the
mean of all source classes, `null` the null row."""
TABLE = "y_embedder.embedding_table.weight"


def table_of(source: Tensor, num_classes: int, rows: Rule) -> Tensor:
    """A table of `num_classes` rows made of the source's; its null row stays the null row. [C + 1, d] -> [K + 1, d]."""
    classes, null = source[:-1], source[-1:]
    chosen = {
        "reuse_rows": classes[torch.arange(num_classes) % len(classes)],
        "mean": classes.mean(0, keepdim=True).expand(num_classes, -1),
        "null": null.expand(num_classes, -1),
    }[rows]
    return torch.cat([chosen, null]).clone()


def with_classes(
    source: DiT, num_classes: int, rows: Rule, *, known: Mapping[int, int] | None = None, share: bool = False
) -> DiT:
    """Weights with a label table of `num_classes` rows, as `table_of` makes it.

    Args:
        source: the pre-trained model.
        num_classes: K, classes of the target.
        rows: how class rows start.
        known: classes that have a row in the source already, and which; `rows` is for the others.
        share: whether the other weights stay those of `source`: for a model that is only read.

    Raises:
        TaskError: `too_many_classes` where K exceeds 1000, DiTPipeline's null label.
    """
    if num_classes > MAX_CLASSES:
        message = f"{num_classes} classes, at most {MAX_CLASSES}: exports keep row {MAX_CLASSES} for the null label"
        raise TaskError("too_many_classes", message, "training_file")
    with torch.device("meta"):
        model = DiT(replace(source.config, num_classes=num_classes))
    state = {name: tensor if share else tensor.clone() for name, tensor in source.state_dict().items()}
    table = table_of(state[TABLE], num_classes, rows)
    for row, theirs in (known or {}).items():
        table[row] = state[TABLE][theirs]
    state[TABLE] = table
    model.load_state_dict(state, assign=True)
    model.pos_embed = nn.Parameter(model.pos_embed.detach(), requires_grad=False)
    return model


def told_of_rows(num_classes: int, num_source: int, rows: Rule) -> str:
    """Return what `with_classes` did to the table, for the report."""
    if rows == "null":
        return f"The rows of the {num_classes} classes started as the base model's null row."
    if rows == "mean":
        return f"The rows of the {num_classes} classes started as the mean of the base model's {num_source}."
    last = min(num_classes, num_source) - 1
    said = f"The rows of the {num_classes} classes started as the base model's rows 0 to {last}"
    return f"{said}, from class {num_source} on from row 0 again." if num_classes > num_source else f"{said}."
