"""What `resources` says of a network's blocks, put into effect before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from difftune_core.checkpoint.state import TrainState
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.batch import TrainingData, make_batch
from difftune_core.hooks import Hooks, LogEvent
from difftune_core.runtime.blocks import checkpoint_activations, compile_blocks, compile_for_drawing
from difftune_core.runtime.compiled import compiles, place_of_compiled
from difftune_core.runtime.precision import keep_frozen_in
from difftune_core.train.step import backward


def prepare_blocks(
    state: TrainState[Any],
    beside: Sequence[nn.Module],
    *,
    config: TransferConfig,
    data: TrainingData,
    hooks: Hooks,
    cache: Path,
) -> None:
    """Keep frozen networks in the run's precision; have blocks computed anew in the backward pass, or compiled, where
    the run asks for it; tell what is not so.

    Args:
        state: whose model is trained, still alone.
        beside: frozen networks that a step calls too.
        config: resolved.
        data: what is trained on.
        hooks: who is told.
        cache: the node's.
    """
    for network in beside:
        keep_frozen_in(network, state.execution.precision)
    resources, networks = config.resources, [state.model, *beside]
    checkpointing = resources.activation_checkpointing == "on"
    if checkpointing and not sum(checkpoint_activations(network) for network in networks):
        _tell(hooks, "no_blocks", "activation_checkpointing", "it does nothing: the network has no blocks")
    if not compiles(resources, next(state.model.parameters()).device):
        return
    count, why = compile_blocks(networks, place_of_compiled(cache), lambda: _try_out(state, config, data))
    state.drop_gradients()
    state.execution = replace(state.execution, compiled=count > 0)
    if count:
        compile_for_drawing(state.average)
    if why is not None:
        _tell(hooks, "compile_failed", "compile", f"the run goes on without: {why}")
    elif not count and resources.compile == "on":
        _tell(hooks, "no_blocks", "compile", "it does nothing: the network has no blocks")


def _try_out(state: TrainState[Any], config: TransferConfig, data: TrainingData) -> None:
    """Make the passes of a step, with as many slots as a process has, and take none."""
    share = config.method.hyperparameters.batch_size // config.resources.gpus
    backward(state, make_batch(config, data, state.step).part(slice(share)), config.method, data)


def _tell(hooks: Hooks, code: str, field: str, message: str) -> None:
    param = f"resources.{field}"
    hooks.emit(LogEvent(level="warn", message=f"{param}: {message}", data={"code": code, "param": param}))
