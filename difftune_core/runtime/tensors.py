"""Writing tensors, and sending them to a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

_Network = TypeVar("_Network", bound=nn.Module)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """A safetensors file with the access rights that any new file here gets; the library's own are the owner's alone.

    Args:
        tensors: by name; what is not contiguous is written as if it were.
        path: replaced as a whole.
        metadata: more than one key comes out in no fixed order, and so in other bytes each time.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    path.chmod(mode)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; the host goes on before it has arrived."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def channels_last(network: _Network) -> _Network:
    """Lay a network of convolutions out as a GPU computes them fastest; a CPU's is left as it is."""
    if next(network.parameters()).device.type != "cuda":
        return network
    laid_out: _Network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types no such call
    return laid_out
