"""LoRA (Hu et al. 2022) and DoRA (Liu et al. 2024) through peft's layers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from difftune_core.adapters.initial import by_fan_in
from difftune_core.config.adapter import Lora
from difftune_core.hooks import TaskError

_NAME = "default"


@torch.no_grad()
def add_lora(model: nn.Module, adapter: Lora, *, seed: int) -> None:
    """Put low-rank updates on the targets; B starts at 0, so that the model is the same function.

    Raises:
        TaskError: `adapter_matches_nothing` naming the targets that end no linear layer's name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        use_dora=adapter.use_dora,
        target_modules=matching(model, adapter.targets),
    )
    inject_adapter_in_model(config, model, adapter_name=_NAME)
    for name, module in model.named_modules():
        if _is_adapted(module):
            first: Tensor = module.lora_A[_NAME].weight
            first.copy_(by_fan_in(first, seed=seed, name=name))


def matching(model: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Names of the linear layers that end in a target."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = {target: [name for name in layers if f".{name}".endswith(f".{target}")] for target in targets}
    missing = [target for target, names in found.items() if not names]
    if missing:
        raise TaskError("adapter_matches_nothing", f"no linear layer is named {', '.join(missing)}", "adapter.targets")
    return sorted({name for names in found.values() for name in names})


def folded(module: nn.Module) -> dict[str, Tensor] | None:
    """Weight and bias of the plain linear layer that does the same; None where the module is none of ours."""
    if not _is_adapted(module):
        return None
    layer: Any = deepcopy(module).float()  # an update is smaller than what half a float tells apart
    layer.merge()
    return {name: tensor.detach() for name, tensor in layer.get_base_layer().named_parameters()}


def _is_adapted(module: nn.Module) -> Any:
    return hasattr(module, "lora_A")  # asking for peft's class would load peft for every model
