"""Choosing what is trained."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from difftune_core.adapters.adaptformer import add_bottlenecks
from difftune_core.adapters.bitfit import unfreeze_biases
from difftune_core.adapters.difffit import add_difffit
from difftune_core.adapters.lora import add_lora
from difftune_core.adapters.vpt import add_prompts
from difftune_core.config.adapter import Adapter, AdaptFormer, BitFit, DiffFit, FullTuning, Lora, VisualPrompt

TRAINED_BESIDE = "trained_beside"
"""Attribute of a network: names of its parts that are trained with every adapter."""
_Model = TypeVar("_Model", bound=nn.Module)


def adapt(model: _Model, adapter: Adapter, *, seed: int = 0) -> _Model:
    """Insert the adapter into `model` itself and say by `requires_grad` what is trained; `full` changes nothing.

    What a base model has no counterpart of is trained with every adapter: a DiT's label table, a ControlNet's embedding
    of the control and its zero convolutions. Inserted parameters start as a function of `seed`.

    Raises:
        TaskError: `adapter_matches_nothing` where a target names no layer.
    """
    if isinstance(adapter, FullTuning):
        return model
    model.requires_grad_(False)  # noqa: FBT003  # no name in the library
    _insert(model, adapter, seed)
    for part in getattr(model, TRAINED_BESIDE, ()):
        model.get_submodule(part).requires_grad_(requires_grad=True)
    return model


def _insert(model: Any, adapter: Adapter, seed: int) -> None:
    """Insert an adapter; all but LoRA know the names of a DiT's blocks. Submit checks which ones a family takes."""
    match adapter:
        case Lora():
            add_lora(model, adapter, seed=seed)
        case DiffFit():
            add_difffit(model, last_block=adapter.last_block)
        case BitFit():
            unfreeze_biases(model)
        case AdaptFormer():
            add_bottlenecks(model, **adapter.model_dump(exclude={"type"}), seed=seed)
        case VisualPrompt():
            add_prompts(model, num_tokens=adapter.num_tokens, gated=adapter.zero_gate, seed=seed)
