"""Counts where a host would wait for its device: on the CPU by the operations that hand a value over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero"}
_INDEXES = {"aten::index", "aten::index_put", "aten::index_put_"}


class Synchronisations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    """While it is entered, notes the names of operations whose result the host has to wait for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        name = func.name().split(".")[0]
        by_mask = name in _INDEXES and any(isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1])
        if name in _WAITS or by_mask:
            self.names.append(name)
        call: Callable[..., Any] = func
        return call(*args, **(kwargs or {}))
