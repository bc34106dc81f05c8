"""What this machine computes with, tried out: `python -m difftune_core devices` prints it as JSON."""

from __future__ import annotations

import os
from typing import Any

_SIZE = 256


def examine() -> dict[str, Any]:
    """The version of torch, cores, and each GPU with whether a product of matrices on it is right."""
    import torch

    found: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": [],
    }
    for number in range(torch.cuda.device_count()):
        found["gpus"].append(_gpu(number))
    return found


def _gpu(number: int) -> dict[str, Any]:
    """Name, memory in bytes, and the fault if it cannot compute."""
    import torch

    try:
        free, total = torch.cuda.mem_get_info(number)
        generator = torch.Generator().manual_seed(0)
        matrix = torch.randn(_SIZE, _SIZE, dtype=torch.float64, generator=generator)
        product = (matrix.to(f"cuda:{number}") @ matrix.to(f"cuda:{number}")).cpu()
        fault = None if torch.allclose(product, matrix @ matrix) else "a product of matrices came out wrong"
        return {"name": torch.cuda.get_device_name(number), "free": free, "total": total, "fault": fault}
    except RuntimeError as error:
        return {"name": f"GPU {number}", "free": 0, "total": 0, "fault": str(error).splitlines()[0]}
