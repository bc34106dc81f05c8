"""Conditions: what a control image shows of a picture, and who draws it.

An annotator makes a control image of a picture, both uint8 RGB of the same size; maps of one channel repeat it. Edge
and sketch are computed; depth, normal and segmentation need a network in a folder that the operator imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from difftune_core.config.conditions import find_condition
from difftune_core.config.outside import load
from difftune_core.hooks import TaskError

Annotator = Callable[[UInt8[np.ndarray, "h w 3"]], UInt8[np.ndarray, "h w 3"]]


def release(annotator: Annotator) -> None:
    """Let go of an annotator's network, if it has one that it can load again, until it is next asked."""
    letting_go: Any = getattr(annotator, "release", None)
    if letting_go is not None:
        letting_go()


def annotator(condition: str, folder: Path | None = None, device: torch.device | str = "cpu") -> Annotator:
    """Make what draws the control images of a condition.

    Args:
        condition: one of `config.conditions`.
        folder: of the network, for those that are not computed: a depth estimator for depth and normal, a semantic
            segmentation model for segmentation, as transformers saves them (config, safetensors, preprocessor config).
        device: where the network runs.

    Raises:
        TaskError: `condition_unknown`; `condition_unloadable`, its code cannot be imported; `annotator_not_found` where
            the folder or a file of it is missing; `model_mismatch` where the network is none for this condition.
    """
    found = find_condition(condition)
    if not found.is_computed and folder is None:
        message = f"the condition {condition!r} needs a network; import one and name it"
        raise TaskError("annotator_not_found", message, "annotator")
    try:
        drawer = load(found.draw)
    except Exception as error:  # whatever a stranger's module raises
        message = f"the condition {condition!r} cannot be loaded: {error}"
        raise TaskError("condition_unloadable", message, "condition") from error
    drawn: Annotator = drawer if found.is_computed else drawer(folder, device)
    return drawn
