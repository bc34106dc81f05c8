"""What networks compute in while they are trained or draw: float32, or half of it by autocast over float32 weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from difftune_core.config.run import PrecisionName
from difftune_core.hooks import TaskError

COMPUTES_IN = "computes_in"
"""Attribute of a network: the type that its frozen weights are kept in, and that it computes in; None for float32. A
network that has it computes by `computing_in`, whoever calls it."""
_DTYPES: dict[PrecisionName, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """A precision of one device."""

    name: PrecisionName
    device: torch.device
    compiled: bool = False
    """Whether blocks of networks that draw are compiled, which rounds otherwise."""

    @property
    def dtype(self) -> torch.dtype | None:
        """What autocast computes in; None for float32."""
        return _DTYPES.get(self.name)

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which products of matrices and convolutions are in this precision, and all else as it was."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def told(self) -> dict[str, str]:
        """Return the fields that name the precision in keys of caches; none for float32, which goes without saying."""
        told = {} if self.dtype is None else {"precision": self.name}
        return told | ({"blocks": "compiled"} if self.compiled else {})

    def new_scaler(self) -> torch.amp.GradScaler | None:
        """Return what keeps gradients within the range of float16; None where the range is that of float32."""
        return torch.amp.GradScaler(self.device.type) if self.name == "fp16" else None


FP32 = Precision("fp32", torch.device("cpu"))
"""Float32, the same on every device."""


def precision_on(device: torch.device, asked: Literal["auto"] | PrecisionName) -> Precision:
    """The precision that a run asks for, on its device.

    A CPU computes in bfloat16 where it is asked to, fast or not; `auto` takes float32 there.

    Raises:
        TaskError: `precision_unavailable`, the device lacks it.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if asked == "auto":
        return Precision("bf16" if has_bf16 else "fp32", device)
    if (asked == "bf16" and device.type == "cuda" and not has_bf16) or (asked == "fp16" and device.type == "cpu"):
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        message = f"{name} does not train in {asked}: take auto, or {'fp16' if device.type == 'cuda' else 'bf16'}"
        raise TaskError("precision_unavailable", message, "resources.precision")
    return Precision(asked, device)


def keep_frozen_in(network: nn.Module, precision: Precision) -> None:
    """Keep what is frozen of layers and convolutions in what autocast would cast it to at each pass: half the memory.

    What is trained stays as it is, and so do norms and whatever else autocast computes in float32.
    """
    if precision.dtype is None:
        return
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(precision.dtype)
    setattr(network, COMPUTES_IN, precision.dtype)


def computing_in(network: nn.Module) -> AbstractContextManager[object]:
    """Autocast to what the network's frozen weights are kept in; where that is float32, as it is around."""
    dtype = getattr(network, COMPUTES_IN, None)
    return nullcontext() if dtype is None else torch.autocast(next(network.parameters()).device.type, dtype)
