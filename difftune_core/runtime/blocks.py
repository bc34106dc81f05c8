"""The repeated blocks of a network: computed again in the backward pass instead of being remembered, and compiled."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from difftune_core.runtime.memory import is_out_of_memory

_BLOCKS = ("BasicTransformerBlock",)  # diffusers' ControlNets have them and do not say so
_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_STATED = os.environ.get(_CACHE)  # by whoever started this process: the compiler sets it too
BACKEND = "inductor"


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network repeats, by the names of their classes in its `_repeated_blocks`, as diffusers' are."""
    names = {*_BLOCKS, *(getattr(network, "_repeated_blocks", None) or ())}
    return [module for module in network.modules() if names & {kind.__name__ for kind in type(module).__mro__}]


def checkpoint_activations(network: nn.Module) -> bool:
    """Remember only what goes into each block, and compute the block again in the backward pass; whether that is so.

    Networks are asked by `enable_gradient_checkpointing`, as diffusers' are. Nothing in the blocks is drawn at random,
    so no generator's state is kept, which a GPU would have to be waited for.
    """
    enable: Any = getattr(network, "enable_gradient_checkpointing", None)
    if enable is None or not getattr(network, "_supports_gradient_checkpointing", True):
        return False
    enable(partial(checkpoint, use_reentrant=False, preserve_rng_state=False))
    return True


def keep_compiled_in(cache: Path) -> None:
    """Keep compiled code in a folder, unless whoever started this process has stated another."""
    if _STATED is None:
        os.environ[_CACHE] = str(cache)


def compile_for_drawing(network: nn.Module) -> None:
    """Compile the repeated blocks of a network that nothing is learned by; a block that cannot be goes on without."""
    for block in repeated_blocks(network):
        block._compiled_call_impl = _Tried(block)  # noqa: SLF001  # where `Module.compile` puts its own


class _Tried:
    """A block's call, compiled at its first; as it was where that fails."""

    def __init__(self, block: nn.Module) -> None:
        self._plain: Callable[..., Any] = block._call_impl  # noqa: SLF001  # as `Module.compile` takes it
        self._compiled: Callable[..., Any] | None = torch.compile(self._plain, backend=BACKEND)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled is None:
            return self._plain(*args, **kwargs)
        try:
            return self._compiled(*args, **kwargs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._compiled = None
            return self._plain(*args, **kwargs)


def compile_blocks(networks: Sequence[nn.Module], cache: Path, attempt: Callable[[], object]) -> tuple[int, str | None]:
    """Compile the repeated blocks, and try them out by `attempt`; without them if that fails.

    Args:
        networks: those that a step calls.
        cache: where compiled code is kept, for later runs too.
        attempt: a forward and backward pass as a step makes it.

    Returns:
        How many blocks are compiled now, and why they are not, in the compiler's words.
    """
    blocks = [block for network in networks for block in repeated_blocks(network)]
    if not blocks:
        return 0, None
    keep_compiled_in(cache)
    for block in blocks:
        block.compile(backend=BACKEND)
    try:
        attempt()
    except Exception as error:
        for block in blocks:
            block._compiled_call_impl = None  # noqa: SLF001  # there is no way back but this
        if is_out_of_memory(error):
            raise
        return 0, " ".join(f"{type(error).__name__}: {error}".split("\n")[:2])
    return len(blocks), None
