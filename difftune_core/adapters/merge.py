"""Makes a plain model of an adapted one."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from difftune_core.adapters import lora
from difftune_core.adapters.adaptformer import AdaptedMlp
from difftune_core.adapters.difffit import ScaledLinear
from difftune_core.adapters.vpt import PromptedBlock
from difftune_core.hooks import TaskError

_Model = TypeVar("_Model", bound=nn.Module)


def merged(model: _Model) -> _Model:
    """A plain model in float32 that is the same function; the model itself where it is one.

    Raises:
        TaskError: `adapter_not_mergeable` for AdaptFormer and VPT, which are more than other weights.
    """
    replaced = {path: weights for path, module in model.named_modules() if (weights := _folded(module)) is not None}
    if not replaced and all(p.dtype == torch.float32 for p in model.parameters()):
        return model
    inside = tuple(f"{path}." for path in replaced)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(inside)}
    state |= {f"{path}.{kind}": tensor for path, weights in replaced.items() for kind, tensor in weights.items()}
    with torch.device("meta"):
        plain = _same_anatomy(model)
    plain.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return plain.train(model.training).requires_grad_(False)  # noqa: FBT003  # no name in the library


def _same_anatomy(model: _Model) -> _Model:
    kind: Any = type(model)
    make = getattr(kind, "from_config", kind)  # which diffusers' networks have
    made: _Model = make(model.config)
    return made


def _folded(module: nn.Module) -> dict[str, Tensor] | None:
    if isinstance(module, AdaptedMlp | PromptedBlock):
        raise TaskError("adapter_not_mergeable", "AdaptFormer and VPT are no change of weights: they cannot be merged")
    return module.folded() if isinstance(module, ScaledLinear) else lora.folded(module)
