"""Whether blocks are compiled, and where the compiler keeps what it has made between runs."""

from __future__ import annotations

from pathlib import Path

import torch

from difftune_core.config.run import ResourcesConfig
from difftune_core.files import COMPUTED
from difftune_core.holding import use

_COMPILED = "compiled"  # among what a node has computed, by version: the compiler's own cache


def compiles(resources: ResourcesConfig, device: torch.device) -> bool:
    """Return whether a run's `resources` ask for compiled blocks on its device."""
    return resources.compile == "on" or (resources.compile == "auto" and device.type == "cuda")


def place_of_compiled(cache: Path) -> Path:
    """The folder of a node's cache where compiled code is kept; made, and noted as used."""
    place = cache / COMPUTED / _COMPILED / torch.__version__
    place.mkdir(parents=True, exist_ok=True)
    use(place)
    return place
