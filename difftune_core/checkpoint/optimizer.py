"""AdamW with its moments in float32, fused, or in 8 bits; and the moments as a checkpoint keeps them.

A run may go on with the other kind: 8 bits are kept with what they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.hooks import TaskError

MOMENTS = ("exp_avg", "exp_avg_sq")
_SIGNED = "exp_avg"
_SCALE, _LEVELS = "scale", "qmap"  # of a block, and what the 256 codes stand for, as torchao calls them


def new_optimizer(
    trained: Sequence[nn.Parameter], hyperparameters: TrainingHyperparameters, kind: str = "fp32"
) -> torch.optim.Optimizer:
    """AdamW over these parameters.

    Raises:
        TaskError: `optimizer_unavailable`, torchao is not installed.
    """
    rate, decay = hyperparameters.learning_rate, hyperparameters.weight_decay
    if kind == "fp32":
        return torch.optim.AdamW(trained, lr=rate, weight_decay=decay, fused=True)
    try:
        from torchao.optim import AdamW8bit
    except ImportError:
        message = "moments in 8 bits need torchao, which is not installed: pip install 'difftune[optim8bit]'"
        raise TaskError("optimizer_unavailable", message, "resources.optimizer_state") from None
    made: torch.optim.Optimizer = AdamW8bit(trained, lr=rate, weight_decay=decay)
    return made


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def take_step(optimizer: torch.optim.Optimizer, *, stays: Tensor) -> None:
    """Take a step, or none where `stays` is 1.0: the fused kernel reads that on the device, others wait for it."""
    if isinstance(optimizer, torch.optim.AdamW):
        optimizer.found_inf = stays  # type: ignore[attr-defined]  # of fused optimizers
        optimizer.step()
    elif not bool(stays):
        on_cpu = stays.device.type == "cpu"  # where compiling takes longer than it saves
        with torch.compiler.set_stance("force_eager") if on_cpu else nullcontext():
            optimizer.step()


def dumped_moments(optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moments by kind and name of parameter; of 8 bits also the scale of each block and the levels."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in trained.items():
        state = optimizer.state[parameter]
        for kind in MOMENTS:
            moment: Any = state.get(kind)
            if moment is None:
                continue
            if not hasattr(moment, "codes"):
                tensors[f"{kind}/{name}"] = moment
                continue
            tensors[f"{kind}/{name}"] = moment.codes
            tensors[f"{kind}.{_SCALE}/{name}"] = moment.scale
            tensors[f"{kind}.{_LEVELS}/{name}"] = moment.qmap
    return tensors


def load_moments(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor], tensors: Mapping[str, Tensor], updates: float
) -> None:
    """The reverse of `dumped_moments`, after `updates` steps."""
    for name, parameter in trained.items():
        fused = isinstance(optimizer, torch.optim.AdamW)
        place = parameter.device if fused else torch.device("cpu")  # the fused kernel reads it on the device
        optimizer.state[parameter] = {
            "step": torch.tensor(updates, device=place),
            **{kind: _loaded(optimizer, parameter, kind, name, tensors) for kind in MOMENTS},
        }


def _loaded(optimizer: Any, parameter: Tensor, kind: str, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    kept, scale = tensors[f"{kind}/{name}"], tensors.get(f"{kind}.{_SCALE}/{name}")
    if isinstance(optimizer, torch.optim.AdamW):
        return (kept if scale is None else _levels(kind, name, tensors)).to(parameter.device)
    moment = optimizer._new_buffer(parameter, kind == _SIGNED)  # noqa: SLF001  # as its first step makes it
    if scale is not None and hasattr(moment, "codes"):
        moment.codes.copy_(kept)
        moment.scale.copy_(scale)
    else:
        moment.copy_(kept.to(parameter.device))
    found: Tensor = moment
    return found


def _levels(kind: str, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return what 8 bits stand for: the level of each code times the scale of its block."""
    codes, scale = tensors[f"{kind}/{name}"], tensors[f"{kind}.{_SCALE}/{name}"]
    values = tensors[f"{kind}.{_LEVELS}/{name}"][codes.long()]
    return (values.view(len(scale), -1) * scale[:, None]).view(codes.shape)
