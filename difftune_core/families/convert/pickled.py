"""Reading a `.pt`: only the operator's import does, in a child process, with `weights_only=True`."""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difftune_core.families.convert.weights import State, read_safetensors, unwrapped
from difftune_core.hooks import TaskError

_NESTED = ("ema", "model")
_REFUSED = re.compile(r"GLOBAL (\S+)")


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
