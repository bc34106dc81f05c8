"""How many images go through a network together where nothing is learned: what a share of the device's memory holds."""

from __future__ import annotations

import torch

_CPU_BYTES = 2**30
_SHARE = 8
"""A GPU also holds weights, average and moments of a run that is interrupted by an evaluation."""


def images_at_once(bytes_of_one: int, device: torch.device, *, most: int) -> int:
    """A power of two times less than `most`, at least 1, by 1 GiB on a CPU and an eighth of a GPU's whole memory.

    It depends on the kind of device alone and not on what is free, so that equal machines round equally.

    Args:
        bytes_of_one: activations of one image, at the place in the network where they are most.
        device: where the network is.
        most: what is taken where memory does not matter.
    """
    budget = _CPU_BYTES
    if device.type == "cuda":
        budget = torch.cuda.get_device_properties(device).total_memory // _SHARE
    count = most
    while count > 1 and count * bytes_of_one > budget:
        count //= 2
    return count
