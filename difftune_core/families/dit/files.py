"""A DiT's files: weights and anatomy, in a base model's folder and in a checkpoint's."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from difftune_core.adapters.select import adapt
from difftune_core.config.adapter import Adapter
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT, DiTConfig, position_embedding
from difftune_core.networks.state import CONFIG, WEIGHTS, check_state
from difftune_core.runtime.imports import uncollected

_ADAPTER = "adapter"
_LATER_FIELDS = ("process", "prediction", "sigma_data")  # written only where not the default: older files have none
_ADAPTERS: TypeAdapter[Adapter] = TypeAdapter(Adapter)
_CONFIGS = TypeAdapter(DiTConfig)


def adapter_in(folder: Path) -> Any:
    """Read which adapter the weights have inside, None for a plain DiT.

    Raises:
        TaskError: `unreadable_weights`.
    """
    return _fields(folder).get(_ADAPTER)


def load_dit(
    folder: Path, config: DiTConfig, device: torch.device | str = "cpu", *, shared: Mapping[str, Tensor] | None = None
) -> DiT:
    """A DiT from `model.safetensors`, names and shapes checked, as float32.

    Where `config.json` beside it names an adapter (one that cannot be merged), the model comes with it.

    Args:
        folder: holds the weights.
        config: the anatomy.
        device: where to.
        shared: weights that are in memory already, by name: they are taken as they are, and not read.

    Raises:
        TaskError: `model_mismatch` with the missing, unexpected or misshapen names; `not_finite` for NaN or infinity;
            `unreadable_weights` for a file that is no whole safetensors file.
    """
    with torch.device("meta"), uncollected():  # the first layer made there loads torch's compiler
        model = DiT(config)
    adapter = adapter_in(folder) if (folder / CONFIG).is_file() else None
    if adapter is not None:
        adapt(model, _ADAPTERS.validate_python(adapter))
    known = {name: tensor for name, tensor in (shared or {}).items() if name in model.state_dict()}
    state = {name: tensor.float() for name, tensor in read_weights(folder, but=known)} | known
    if "pos_embed" not in state:  # fixed by the anatomy, so files may leave it out
        state["pos_embed"] = position_embedding(config.hidden_size, config.input_size // config.patch_size)
    check_state(state, model)
    model.load_state_dict(state, assign=True)
    model.pos_embed.requires_grad_(False)  # noqa: FBT003  # the argument has no name in the library
    return model.to(device)


def read_weights(folder: Path, *, but: Container[str] = ()) -> Iterator[tuple[str, Tensor]]:
    """The tensors of `model.safetensors` as they are stored, one after the other, without those of the names `but`.

    Raises:
        TaskError: `unreadable_weights` for a file that is no whole safetensors file.
    """
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # no mapping
                if name not in but:
                    yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise TaskError("unreadable_weights", f"{folder.name}/{WEIGHTS}: {error}", WEIGHTS) from None


def load_plain_dit(
    folder: Path, name: str, device: torch.device | str = "cpu", *, shared: Mapping[str, Tensor] | None = None
) -> DiT:
    """A DiT that can be tuned: one that has no adapter inside.

    Args:
        folder: of weights and config.
        name: what to call it in an error.
        device: where it will be.
        shared: as of `load_dit`.

    Raises:
        TaskError: `adapter_not_mergeable`; else as `load_dit`.
    """
    adapter = adapter_in(folder)
    if adapter is not None:
        kind = adapter.get("type") if isinstance(adapter, dict) else adapter
        message = f"{name} has {kind} inside, which cannot be merged: only a plain DiT can be tuned"
        raise TaskError("adapter_not_mergeable", message, "model")
    return load_dit(folder, read_dit_config(folder), device, shared=shared)


def write_dit_config(folder: Path, config: DiTConfig, adapter: Adapter | None = None) -> None:
    """`config.json` beside the weights; with the adapter where the weights are not those of a plain DiT."""
    default = DiTConfig()
    unsaid = {name for name in _LATER_FIELDS if getattr(config, name) == getattr(default, name)}
    fields = {name: value for name, value in asdict(config).items() if name not in unsaid}
    fields |= {_ADAPTER: adapter.model_dump()} if adapter is not None else {}
    (folder / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def read_dit_config(folder: Path) -> DiTConfig:
    """The anatomy in `config.json`.

    Raises:
        TaskError: `unreadable_weights` for what is no JSON object, `model_mismatch` naming the field at fault.
    """
    fields = {name: value for name, value in _fields(folder).items() if name != _ADAPTER}
    unknown = sorted(fields.keys() - {field.name for field in dataclass_fields(DiTConfig)})
    if unknown:
        raise TaskError("model_mismatch", f"{CONFIG} has fields that this version does not know: {unknown}", unknown[0])
    try:
        config = _CONFIGS.validate_json(json.dumps(fields), strict=True)  # from Python it would want the class itself
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise TaskError("model_mismatch", f"{CONFIG}, {field}: {first['msg']}", field) from None
    if config.num_heads < 1 or config.hidden_size % config.num_heads:
        message = f"{CONFIG}: a width of {config.hidden_size} is not divided by {config.num_heads} heads"
        raise TaskError("model_mismatch", message, "num_heads")
    return config


def _fields(folder: Path) -> dict[str, Any]:
    try:
        fields = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise TaskError("unreadable_weights", f"{folder.name}/{CONFIG}: {error}", CONFIG) from None
    if not isinstance(fields, dict):
        raise TaskError("unreadable_weights", f"{folder.name}/{CONFIG} is no JSON object", CONFIG)
    return fields
