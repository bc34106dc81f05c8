"""Reading weights that others wrote: safetensors of a diffusers folder, every tensor checked by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from difftune_core.hooks import TaskError
from difftune_core.networks.state import CONFIG
from difftune_core.runtime.foreign import check_sizes

State = dict[str, Tensor]
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
DIFFUSERS_INDEX = f"{DIFFUSERS_WEIGHTS}.index.json"
_PICKLES = {".bin", ".ckpt", ".joblib", ".msgpack", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}
_WRAPPERS = ("module.", "_orig_mod.")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def read_component(folder: Path) -> tuple[dict[str, Any], State]:
    """`config.json` and the weights of one component of a diffusers folder (`transformer/`, `vae/`).

    Raises:
        TaskError: `unsafe_weights` for a pickle beside the weights, `unreadable_weights`, `not_finite`;
            `model_mismatch` for a number beyond all bounds.
    """
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _PICKLES)
    if pickles:
        message = f"{folder.name}/ holds files that can carry code: {pickles}; only safetensors are read"
        raise TaskError("unsafe_weights", message, pickles[0])
    config = read_json(folder / CONFIG)
    check_sizes(config, f"{folder.name}/{CONFIG}")
    state = (
        read_safetensors(folder / DIFFUSERS_WEIGHTS) if (folder / DIFFUSERS_WEIGHTS).is_file() else _read_shards(folder)
    )
    state = unwrapped(state)
    check_tensors(state)
    return config, state


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        TaskError: `unreadable_weights`, naming the file.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise TaskError("unreadable_weights", f"{path.parent.name}/{path.name}: {error}", path.name) from None
    if not isinstance(value, dict):
        raise TaskError("unreadable_weights", f"{path.parent.name}/{path.name} is no JSON object", path.name)
    return value


def unwrapped(state: State) -> State:
    """The weights under their own names, where all were saved from within DataParallel, DDP or `torch.compile`."""
    while state and (prefix := next((p for p in _WRAPPERS if all(name.startswith(p) for name in state)), None)):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def check_tensors(state: State) -> None:
    """Refuse what is no finite floating-point tensor, by name; finite as the float32 that every model is loaded as."""
    odd = sorted(name for name, tensor in state.items() if not _is_plain(tensor))
    if odd:
        raise TaskError("model_mismatch", f"not floating-point weights: {odd}", odd[0])
    broken = sorted(name for name, tensor in state.items() if not tensor.float().isfinite().all())
    if broken:
        raise TaskError("not_finite", f"weights hold NaN or infinity: {broken}", broken[0])


def _is_plain(tensor: Tensor) -> bool:
    held = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return held and tensor.dtype in _DTYPES and tensor.numel() > 0


def _read_shards(folder: Path) -> State:
    """The tensors of all files that the index names; the index must say truly where each is."""
    if not (folder / DIFFUSERS_INDEX).is_file():
        message = f"{folder.name}/ has neither {DIFFUSERS_WEIGHTS} nor {DIFFUSERS_INDEX}"
        raise TaskError("unreadable_weights", message, folder.name)
    where = read_json(folder / DIFFUSERS_INDEX).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(shard, str) for shard in where.values()):
        raise TaskError("unreadable_weights", f"{DIFFUSERS_INDEX}: weight_map is no map to file names", "weight_map")
    odd = sorted({shard for shard in where.values() if not _PLAIN_NAME.fullmatch(shard)})
    if odd:
        message = f"{DIFFUSERS_INDEX} names files that are no plain .safetensors names: {odd}"
        raise TaskError("unsafe_weights", message, "weight_map")
    state: State = {}
    found: dict[str, str] = {}
    for shard in sorted(set(where.values())):
        tensors = read_safetensors(folder / shard)
        state |= tensors
        found |= dict.fromkeys(tensors, shard)
    wrong = sorted(name for name in where.keys() | found.keys() if where.get(name) != found.get(name))
    if wrong:
        raise TaskError("model_mismatch", f"{DIFFUSERS_INDEX} does not fit its files in: {wrong}", "weight_map")
    return state


def read_safetensors(path: Path) -> State:
    """Read all tensors of a file.

    Raises:
        TaskError: `unreadable_weights`, it is no whole safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise TaskError("unreadable_weights", f"{path.parent.name}/{path.name}: {error}", path.name) from None
