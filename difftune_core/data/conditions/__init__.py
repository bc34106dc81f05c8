"""Conditions: what a control image shows of a picture, and who draws it.

An annotator makes a control image of a picture, both uint8 RGB of the same size; maps of one channel repeat it. Edge
and sketch are computed; depth, normal and segmentation need a network in a folder that the operator imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from difftune_core.config.control import COMPUTED, CONDITIONS
from difftune_core.hooks import TaskError

__all__ = ["COMPUTED", "CONDITIONS", "Annotator", "annotator"]

Annotator = Callable[[UInt8[np.ndarray, "h w 3"]], UInt8[np.ndarray, "h w 3"]]


def annotator(condition: str, folder: Path | None = None, device: torch.device | str = "cpu") -> Annotator:
    """Who draws the control images of a condition.

    Args:
        condition: one of `CONDITIONS`.
        folder: of the network, for those that are not `COMPUTED`: a depth estimator for depth and normal, a semantic
            segmentation model for segmentation, as transformers saves them (config, safetensors, preprocessor config).
        device: where the network runs.

    Raises:
        TaskError: `condition_unknown`; `annotator_not_found` where the folder or a file of it is missing;
            `model_mismatch` where the network is none for this condition.
    """
    if condition not in CONDITIONS:
        known = ", ".join(CONDITIONS)
        raise TaskError("condition_unknown", f"there is no condition {condition!r}; there are: {known}", "condition")
    if condition in COMPUTED:
        from difftune_core.data.conditions import lines

        return {"edge": lines.edge, "sketch": lines.sketch}[condition]
    if folder is None:
        message = f"the condition {condition!r} needs a network; import one and name it"
        raise TaskError("annotator_not_found", message, "annotator")
    from difftune_core.data.conditions import networks

    drawers: dict[str, Callable[[Path, torch.device | str], Annotator]] = {
        "depth": networks.Depth,
        "normal": networks.Normal,
        "segmentation": networks.Segmentation,
    }
    return drawers[condition](folder, device)
