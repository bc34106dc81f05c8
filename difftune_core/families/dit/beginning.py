"""A DiT that begins with the checkpoint of another run: the classes that the checkpoint knows keep their rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from difftune_core.checkpoint.begin import Beginning
from difftune_core.families.dit.files import load_plain_dit, read_dit_config
from difftune_core.families.dit.label_rows import Rule, with_classes
from difftune_core.networks.dit import DiT


def continued(beginning: Beginning, class_names: Sequence[str], rule: Rule, device: torch.device) -> DiT:
    """The tuned DiT with the target's classes.

    Args:
        beginning: the checkpoint.
        class_names: of the target, by label.
        rule: how the rows of classes start that the checkpoint does not know.
        device: where it will be.

    Raises:
        TaskError: `adapter_not_mergeable`; else as `load_dit`.
    """
    source = load_plain_dit(beginning.folder, beginning.named, device)
    return with_classes(source, len(class_names), rule, known=known_classes(beginning, class_names))


def known_classes(beginning: Beginning, class_names: Sequence[str]) -> dict[int, int]:
    """Return the classes that the checkpoint has rows for, by name; with unknown names, as many are the same."""
    theirs = beginning.origin.class_names
    if theirs is None:
        count = read_dit_config(beginning.folder).num_classes
        return {label: label for label in range(count)} if len(class_names) == count else {}
    rows = {name: row for row, name in enumerate(theirs)}
    return {label: rows[name] for label, name in enumerate(class_names) if name in rows}


def told_of_classes(beginning: Beginning, class_names: Sequence[str], rule: Rule) -> str:
    """Return what `continued` did to the table, for the report."""
    count, kept = len(class_names), len(known_classes(beginning, class_names))
    if kept == count:
        return f"The rows of the {count} classes are those of the checkpoint."
    rows = read_dit_config(beginning.folder).num_classes
    new = {
        "reuse_rows": f"the checkpoint's {rows} in turn",
        "mean": f"the mean of the checkpoint's {rows}",
        "null": "its null row",
    }[rule]
    if not kept:
        return f"The checkpoint knows none of the {count} classes: their rows started as {new}."
    return f"The rows of {kept} classes are those of the checkpoint; the rows of the other {count - kept} were {new}."
