"""The published DiT checkpoints (`.pt`): their names are ours, their anatomy is in their shapes.

Only the operator's import reads such a file, in a child process, with `weights_only=True`.
"""

from __future__ import annotations

import argparse
import math
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difftune_core.families.convert.weights import Converted, State, check_tensors, fitted, read_safetensors, unwrapped
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import PRESETS, DiTConfig

_NESTED = ("ema", "model")
_TELLING = (
    "x_embedder.proj.weight",
    "final_layer.linear.weight",
    "blocks.0.mlp.fc1.weight",
    "y_embedder.embedding_table.weight",
)
"""Weights whose shapes tell the anatomy."""
_PATCH_KERNEL_DIMS = 4
_FREE = ("input_size", "num_classes", "learn_sigma", "timestep_frequencies")
_REFUSED = re.compile(r"GLOBAL (\S+)")


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


def load_weights(path: Path) -> tuple[State, tuple[str, ...]]:
    """The tensors of a `.pt` or safetensors file by name, unchecked, and notes on where in it they were.

    Raises:
        TaskError: `unsafe_weights`, `unreadable_weights`, `model_mismatch` for what is no tensor.
    """
    return _weights(_load(path), path.name)


def _load(path: Path) -> Any:
    """The file's content: tensors, containers of them, and a training run's arguments; anything else is refused."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # noqa: BLE001  # a foreign file may fail in any way
        refused = _REFUSED.search(str(error))
        if refused:
            message = f"{path.name} holds more than weights ({refused[1]}): refused, for that could be code"
            raise TaskError("unsafe_weights", message, path.name) from None
        message = f"{path.name} cannot be read as a PyTorch checkpoint ({type(error).__name__})"
        raise TaskError("unreadable_weights", message, path.name) from None


def _weights(loaded: Any, name: str) -> tuple[State, tuple[str, ...]]:
    nested = next((key for key in _NESTED if isinstance(loaded, dict) and isinstance(loaded.get(key), dict)), None)
    state = loaded[nested] if nested is not None else loaded
    if not isinstance(state, dict) or not state:
        raise TaskError("unreadable_weights", f"{name} holds no weights", name)
    others = sorted(
        str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))
    )
    if others:
        raise TaskError("model_mismatch", f"{name} holds what is no tensor under: {others}", name)
    notes = (f"took the weights under {nested!r}",) if nested is not None else ()
    return unwrapped({key: tensor.detach() for key, tensor in state.items()}), notes


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
