"""Files of strangers: what libraries say of them as reasons that name them, and bounds on what they may ask for."""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from difftune_core.hooks import TaskError

PREPROCESSOR = "preprocessor_config.json"
TOKENIZER = "tokenizer_config.json"
FOREIGN_FIELDS = ("_name_or_path", "auto_map")
"""Fields of foreign configs that say nothing here: paths of whoever saved them, code of whoever published them."""
_LAYERS, _LAYERS_OF_BLOCK = 256, 32
_SIDE = 4096
_WIDTH = 65_536
_MOST = {
    **dict.fromkeys(("layers_per_block", "transformer_layers_per_block"), _LAYERS_OF_BLOCK),
    **dict.fromkeys(("num_hidden_layers", "num_layers"), _LAYERS),
    **dict.fromkeys(("depths", "num_attention_heads", "attention_head_dim", "num_encoder_blocks"), _LAYERS),
    **dict.fromkeys(("image_size", "sample_size", "size", "crop_size", "pad_size"), _SIDE),
    **dict.fromkeys(("height", "width", "shortest_edge", "longest_edge", "max_height", "max_width"), _SIDE),
    **dict.fromkeys(("hidden_size", "intermediate_size", "projection_dim", "block_out_channels"), _WIDTH),
}
_MOST_OTHERWISE = 10_000_000
_PASSING = {errno.EAGAIN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE}
_WEIGHTS_ON = (".safetensors", ".pt")  # may be links to another disk: nothing but tensors is taken from them


@contextmanager
def reading(what: str, param: str, code: str = "model_mismatch") -> Iterator[None]:
    """Libraries fail over a foreign file in any way; whatever they throw becomes a reason that says which file it was.

    Not so what another attempt may not meet again: memory and disks that give out. Nothing is moved to a device inside.

    Raises:
        TaskError: `code`, with `what` in its message.
    """
    try:
        yield
    except (TaskError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _PASSING:
            raise
        said = (str(error).strip().splitlines() or [""])[0]
        raise TaskError(code, f"{what}: {type(error).__name__}: {said}"[:1000], param) from error


def needed(folder: Path, name: str) -> Path:
    """The folder, which has a file of that name: libraries would look for it on a hub.

    Raises:
        FileNotFoundError: it has not.
    """
    if not (folder / name).is_file():
        raise FileNotFoundError(f"there is no {folder.name}/{name}")
    return folder


def check_sizes(config: Mapping[str, Any], file: str) -> None:
    """Refuse numbers beyond all networks known, with which one could be built for ever, and those that are none.

    Raises:
        TaskError: `model_mismatch`, naming file, field and bound.
    """
    for path, name, value in _numbers(config, "", ""):
        most = _MOST.get(name, _MOST_OTHERWISE)
        if isinstance(value, float) and not math.isfinite(value):
            raise TaskError("model_mismatch", f"{file}, {path}: {value} is no finite number", name)
        if isinstance(value, int) and abs(value) > most:
            raise TaskError("model_mismatch", f"{file}, {path}: at most {most:,}", name)


def check_volume(model: torch.nn.Module, found: Mapping[str, torch.Tensor], file: str) -> None:
    """Refuse a network far larger than its weights, before memory is taken for it; names may differ by version.

    Args:
        model: as the config describes it, on the meta device.
        found: the weights.
        file: of the config.

    Raises:
        TaskError: `model_mismatch` with both counts.
    """
    described = sum(tensor.numel() for tensor in model.state_dict().values())
    there = sum(tensor.numel() for tensor in found.values())
    if described > 2 * there + _MOST_OTHERWISE:
        message = f"{file} describes a network of {described:,} weights; the file has {there:,}"
        raise TaskError("model_mismatch", message, file)


def refuse_links(folder: Path) -> None:
    """Refuse links that lead out of a folder, but for weights: what they lead to would be copied. A hub's cache is one.

    Raises:
        TaskError: `unsafe_weights`, naming the link.
    """
    roots = [folder.resolve(), folder.resolve().parents[1] / "blobs"]  # snapshots/REVISION/... link to blobs/
    for path in sorted(folder.rglob("*")):
        leads_out = path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots)
        if leads_out and path.suffix not in _WEIGHTS_ON:
            name = path.relative_to(folder).as_posix()
            raise TaskError("unsafe_weights", f"{name} is a link that leads out of {folder.name}/", name)


def copy_config(path: Path, folder: Path) -> None:
    """Copy a file beside the weights; from a JSON object fields that name code or paths are left out.

    Raises:
        TaskError: `unreadable_weights`, it is no JSON; `model_mismatch`, as `check_sizes`.
    """
    if path.name not in {PREPROCESSOR, TOKENIZER}:
        shutil.copyfile(path, folder / path.name)
        return
    with reading(path.name, path.name, "unreadable_weights"):
        config = dict(json.loads(path.read_bytes()))
    if path.name == PREPROCESSOR:  # a tokenizer's may say that prompts can be endless
        check_sizes(config, path.name)
    (folder / path.name).write_text(json.dumps(kept(config), indent=2) + "\n", encoding="utf-8")


def kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without `FOREIGN_FIELDS`."""
    return {name: value for name, value in config.items() if name not in FOREIGN_FIELDS}


def _numbers(value: Any, path: str, name: str) -> Iterator[tuple[str, str, int | float]]:
    """Yield each number with its path and the nearest name above it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}" if path else str(key), str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, path, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, name, value
