"""The memory that a run has needed, beside what its plan says."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch

from difftune_core.config.families import rules_of
from difftune_core.config.plan.circumstances import Circumstances, Device
from difftune_core.config.plan.memory import CUDA_DEVICE, memory_of, peak
from difftune_core.families.base import Task
from difftune_core.train.loop import Loop

_KIB = 1024  # what Linux counts resident memory in; macOS counts bytes
_EXTRACTOR = 24_000_000  # parameters of Inception; the bundled network has so few that they do not count


def memory_told(task: Task[Any], loop: Loop[Any], num_images: int, num_classes: int | None) -> dict[str, Any]:
    """Tell the peak as it was planned and as it was measured, in bytes.

    On a GPU that is what its tensors had, in the run's first process; on a CPU what was resident in it, mapped pages of
    files among it. Nothing is planned where the base model's card has no anatomy.
    """
    preparation, config = task.preparation, loop.config
    card, device = preparation.base.card, preparation.device
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "cpu"
    total = torch.cuda.get_device_properties(device).total_memory if on_gpu else None
    extractor = None if card.feature_extractor.startswith("tiny") else _EXTRACTOR
    known = Circumstances(device=Device(name, total), num_images=num_images, extractor_parameters=extractor)
    size = rules_of(card).network_size(config, card, num_classes)
    planned = memory_of(config, size, card.image_size, known)
    predicted = peak(planned.device)[1] - CUDA_DEVICE if on_gpu else peak(planned.host)[1]
    measured = torch.cuda.max_memory_allocated(device) if on_gpu else _resident()
    told = {"device": name, "predicted_peak_bytes": predicted, "measured_peak_bytes": measured}
    return told if size.is_known else {key: value for key, value in told.items() if key != "predicted_peak_bytes"}


def _resident() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * _KIB
