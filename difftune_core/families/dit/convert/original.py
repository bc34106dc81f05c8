"""The published DiT checkpoints (`.pt`): their names are ours, their anatomy is in their shapes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from difftune_core.families.convert.pickled import load_weights
from difftune_core.families.convert.weights import State, check_tensors
from difftune_core.families.dit.convert.fitted import Converted, fitted
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import PRESETS, DiTConfig

_TELLING = (
    "x_embedder.proj.weight",
    "final_layer.linear.weight",
    "blocks.0.mlp.fc1.weight",
    "y_embedder.embedding_table.weight",
)
"""Weights whose shapes tell the anatomy."""
_PATCH_KERNEL_DIMS = 4
_FREE = ("input_size", "num_classes", "learn_sigma", "timestep_frequencies")


def read_original(path: Path, *, num_heads: int | None = None, input_size: int | None = None) -> Converted:
    """A DiT from a `.pt` of the original code: the weights alone, or under `ema` or `model` of a training checkpoint.

    A `.safetensors` under the same names (a checkpoint of ours) is read as well.

    Args:
        path: the file.
        num_heads: attention heads, which no shape tells; only for a DiT of none of the published sizes.
        input_size: latent height and width, only where the file has no `pos_embed`.

    Raises:
        TaskError: `unsafe_weights`, `unreadable_weights`, `not_finite`, or `model_mismatch` with the names at fault.
    """
    state, notes = load_weights(path)
    check_tensors(state)
    return fitted(state, _anatomy(state, num_heads, input_size), notes)


def preset_name(config: DiTConfig) -> str | None:
    """The published name of an anatomy (`DiT-XL/2`), whatever its image size and label table."""
    for name, preset in PRESETS.items():
        if replace(config, **{field: getattr(preset, field) for field in _FREE}) == preset:
            return name
    return None


def _anatomy(state: State, num_heads: int | None, input_size: int | None) -> DiTConfig:
    missing = [name for name in _TELLING if name not in state]
    if missing:
        message = f"weights: missing {missing}; the file has names like {sorted(state)[:3]}"
        raise TaskError("model_mismatch", message, missing[0])
    kernel = _shape(state, "x_embedder.proj.weight", _PATCH_KERNEL_DIMS)
    hidden, channels, patch = kernel[0], kernel[1], kernel[2]
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    outputs = _shape(state, "final_layer.linear.weight", 2)[0] / patch**2
    if outputs not in {channels, 2 * channels}:
        message = f"final_layer.linear.weight: {outputs:g} output channels for {channels} input channels"
        raise TaskError("model_mismatch", message, "final_layer.linear.weight")
    return DiTConfig(
        input_size=_input_size(state, patch, input_size),
        patch_size=patch,
        in_channels=channels,
        hidden_size=hidden,
        depth=depth,
        num_heads=_num_heads(hidden, depth, patch, num_heads),
        mlp_ratio=_shape(state, "blocks.0.mlp.fc1.weight", 2)[0] / hidden,
        num_classes=_shape(state, "y_embedder.embedding_table.weight", 2)[0] - 1,
        learn_sigma=outputs == 2 * channels,
    )


def _shape(state: State, name: str, dims: int) -> torch.Size:
    if state[name].ndim != dims:
        raise TaskError("model_mismatch", f"weights: {name} has shape {list(state[name].shape)}", name)
    return state[name].shape


def _input_size(state: State, patch: int, stated: int | None) -> int:
    if "pos_embed" not in state:
        if stated is None:
            raise TaskError("model_mismatch", "without pos_embed the latent size must be stated", "input_size")
        return stated
    tokens = _shape(state, "pos_embed", 3)[1]
    size = math.isqrt(tokens) * patch
    if math.isqrt(tokens) ** 2 != tokens or (stated is not None and stated != size):
        raise TaskError("model_mismatch", f"pos_embed has {tokens} tokens of patches of {patch}", "pos_embed")
    return size


def _num_heads(hidden: int, depth: int, patch: int, stated: int | None) -> int:
    sizes = {(p.hidden_size, p.depth, p.patch_size): p.num_heads for p in PRESETS.values()}
    published = sizes.get((hidden, depth, patch))
    heads = published if stated is None else stated
    if heads is None:
        message = f"hidden size {hidden}, depth {depth}, patch {patch} is no published DiT: state its number of heads"
        raise TaskError("model_mismatch", message, "num_heads")
    if heads != published and published is not None:
        raise TaskError("model_mismatch", f"the published DiT of that size has {published} heads", "num_heads")
    return heads
