"""A DiT from elsewhere in our names, its names and shapes checked."""

from __future__ import annotations

from typing import NamedTuple

import torch

from difftune_core.families.convert.weights import State
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT, DiTConfig, position_embedding
from difftune_core.networks.state import check_state

_POSITION_PARTS = 4  # sines and cosines of rows and columns
_POSITION_TOLERANCE = 4e-3  # storing in bfloat16 moves values of up to 1 by half as much


class Converted(NamedTuple):
    """A base model in our names."""

    state: State
    config: DiTConfig
    notes: tuple[str, ...] = ()
    """What the operator should know of how the model was read."""


def fitted(state: State, config: DiTConfig, notes: tuple[str, ...] = ()) -> Converted:
    """`state` with its position embedding kept, or derived where it has none; names and shapes checked.

    Raises:
        TaskError: `model_mismatch` with the missing, unexpected or misshapen names, or where the position embedding is
            not the sine-cosine one that exports rely on.
    """
    if not _possible(config):
        raise TaskError("model_mismatch", f"not the anatomy of a class-conditional DiT: {config}")
    expected = position_embedding(config.hidden_size, config.input_size // config.patch_size)
    state = {"pos_embed": expected, **state}
    with torch.device("meta"):
        model = DiT(config)
    check_state(state, model)
    if not torch.allclose(state["pos_embed"].float(), expected, rtol=0, atol=_POSITION_TOLERANCE):
        raise TaskError("model_mismatch", "pos_embed is not the sine-cosine embedding of a DiT", "pos_embed")
    return Converted({name: state[name].contiguous() for name in model.state_dict()}, config, notes)


def _possible(config: DiTConfig) -> bool:
    whole = config.hidden_size % config.num_heads == 0 and config.input_size % config.patch_size == 0
    return whole and config.hidden_size % _POSITION_PARTS == 0 and config.num_classes > 0
