"""What stands in a device's memory as a whole while a run trains, and what stays in files."""

from __future__ import annotations

import os

import torch

VARIABLE = "DIFFTUNE_RESIDENT_BYTES"
"""Environment variable: bytes of a set up to which it is resident, in place of what is decided here."""
_SHARE = 4
"""Share of a GPU's free memory that a set takes at most: model, activations and the sets after it need the rest."""
_ON_CPU = 64 << 20
"""Most bytes of a set that is resident on a CPU, whose memory other trainers share and holds what was read of files."""


def is_resident(nbytes: int, device: torch.device) -> bool:
    """Return whether a set of so many bytes is brought to the device as a whole, as far as there is room now."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return nbytes <= int(given)
    if device.type != "cuda":
        return nbytes <= _ON_CPU
    free, _ = torch.cuda.mem_get_info(device)
    return nbytes <= free // _SHARE
