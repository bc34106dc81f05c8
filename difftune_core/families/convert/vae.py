"""The autoencoder of an imported base model: diffusers' AutoencoderKL, checked before it is taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difftune_core.families.convert.weights import State, read_component
from difftune_core.hooks import TaskError
from difftune_core.networks.state import check_state, pixels_per_latent
from difftune_core.runtime.foreign import kept

_OLD_ATTENTION = re.compile(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Vae(NamedTuple):
    """What is written into a base model's `vae/`."""

    config: dict[str, Any]
    state: State
    factor: int
    """Pixels to a latent's side."""


class _Config(BaseModel):
    """What our encoding relies on: RGB, latents scaled by one number and not shifted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    class_name: Literal["AutoencoderKL"] = Field(alias="_class_name")
    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: Annotated[int, Field(ge=1, le=256)] = 4
    block_out_channels: Annotated[list[int], Field(min_length=1, max_length=8)] = [64]
    layers_per_block: Annotated[int, Field(ge=1, le=16)] = 1
    scaling_factor: Annotated[float, Field(ge=1e-3, le=1e3, strict=True)] = 0.18215
    force_upcast: Annotated[bool, Field(strict=True)] = True
    shift_factor: None = None
    latents_mean: None = None
    latents_std: None = None


def read_vae(folder: Path, latent_channels: int) -> Vae:
    """The autoencoder in a diffusers folder of its own, or in a pipeline's `vae/`.

    Raises:
        TaskError: `unsafe_weights`, `unreadable_weights`, `not_finite`, or `model_mismatch` naming field or weights.
    """
    inner = folder / "vae"
    raw, theirs = read_component(inner if inner.is_dir() else folder)
    try:
        config = _Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise TaskError("model_mismatch", f"autoencoder config, {field}: {first['msg']}", field) from None
    if config.latent_channels != latent_channels:
        message = f"autoencoder config, latent_channels: {config.latent_channels}; the denoiser has {latent_channels}"
        raise TaskError("model_mismatch", message, "latent_channels")
    state = {_present_name(name): tensor.contiguous() for name, tensor in theirs.items()}
    check_state(state, _empty(raw))
    return Vae(kept(raw), state, pixels_per_latent(config.block_out_channels))


def _present_name(name: str) -> str:
    """Attention weights of older diffusers under their name of today."""
    old = _OLD_ATTENTION.fullmatch(name)
    return f"{old[1]}.{_NEW_ATTENTION[old[2]]}.{old[3]}" if old else name


def _empty(raw: dict[str, Any]) -> torch.nn.Module:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    maker: Any = AutoencoderKL
    try:
        with torch.device("meta"):
            made: torch.nn.Module = maker.from_config(raw)
    except Exception as error:  # noqa: BLE001  # a foreign config may fail in any way
        message = f"autoencoder config: {type(error).__name__}: {error}"
        raise TaskError("model_mismatch", message, "config.json") from None
    return made
