"""A ControlNet of Stable Diffusion under the names of the original code (Zhang et al. 2023).

ComfyUI and A1111 read them. Diffusers numbers resnets and attentions within each block, the original all parts of the
encoder in one row. Tensors are the same under both: nothing is reshaped, joined or cast. `control_model.` stands before
every name, as in the published files; files without it are read as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from difftune_core.families.convert.weights import State, check_tensors, read_safetensors, unwrapped
from difftune_core.hooks import TaskError
from difftune_core.networks.state import check_state
from difftune_core.runtime.foreign import check_sizes, kept, reading
from difftune_core.runtime.tensors import save_tensors

PREFIX = "control_model."
METADATA = "difftune"
_WIDTHS = (16, 32, 96, 256)  # of what embeds the control; one entry more than it halves the sides
_READERS: dict[str, Any] = {
    "act_fn": "silu",
    "block_out_channels": (320, 640, 1280, 1280),
    "conditioning_channels": 3,
    "conditioning_embedding_out_channels": _WIDTHS,
    "controlnet_conditioning_channel_order": "rgb",
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "transformer_layers_per_block": 1,
}
_VERSIONS: dict[int, dict[str, Any]] = {
    768: {"cross_attention_dim": 768, "attention_head_dim": 8, "use_linear_projection": False},
    1024: {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
}
"""Versions by the width of the text states: Stable Diffusion 1 and 2."""
_TEXT_WIDTH = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
    "controlnet_mid_block": "middle_block_out.0",
}
_HALVINGS = 3  # of the control's sides until it has a latent's; readers count on it, for it decides a name
_NUMBERED: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], int], str]], ...] = (
    (re.compile(r"controlnet_cond_embedding\.blocks\.(\d+)"), lambda m, _: f"input_hint_block.{2 * int(m[1]) + 2}"),
    (re.compile(r"controlnet_down_blocks\.(\d+)"), lambda m, _: f"zero_convs.{m[1]}.0"),
    (
        re.compile(r"down_blocks\.(\d+)\.resnets\.(\d+)\.(\w+)"),
        lambda m, layers: f"{_encoder_part(m[1], m[2], layers)}.0.{_RESNET[m[3]]}",
    ),
    (
        re.compile(r"down_blocks\.(\d+)\.attentions\.(\d+)\.(.+)"),
        lambda m, layers: f"{_encoder_part(m[1], m[2], layers)}.1.{m[3]}",
    ),
    (
        re.compile(r"down_blocks\.(\d+)\.downsamplers\.0\.conv"),
        lambda m, layers: f"{_encoder_part(m[1], layers, layers)}.0.op",
    ),
    (
        re.compile(r"mid_block\.resnets\.(\d+)\.(\w+)"),
        lambda m, _: f"middle_block.{2 * int(m[1])}.{_RESNET[m[2]]}",
    ),
    (re.compile(r"mid_block\.attentions\.(\d+)\.(.+)"), lambda m, _: f"middle_block.{2 * int(m[1]) + 1}.{m[2]}"),
)
"""Modules of diffusers -> the original's, given the layers of a block."""


def original_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Every weight of a `ControlNetModel` of this config: diffusers' name -> the original's, with its prefix.

    Raises:
        TaskError: `model_mismatch`, the config has what the original's names cannot hold.
    """
    model = _empty(config)
    halvings = len(model.config["conditioning_embedding_out_channels"]) - 1
    if halvings != _HALVINGS:
        message = f"ControlNet config, conditioning_embedding_out_channels: halves {halvings} times, not {_HALVINGS}"
        raise TaskError("model_mismatch", message, "conditioning_embedding_out_channels")
    layers = int(model.config["layers_per_block"])
    names = {name: f"{PREFIX}{_original(name, layers)}" for name in model.state_dict()}
    assert len(set(names.values())) == len(names), "two weights under one name"
    return names


def to_original(state: State, config: Mapping[str, Any]) -> State:
    """Diffusers' names to the original's; the tensors are the same.

    Raises:
        TaskError: `model_mismatch` with the missing, unexpected or misshapen names; `not_finite`.
    """
    names = original_names(config)
    check_state(state, _empty(config))
    return {original: state[name] for name, original in names.items()}


def to_diffusers(state: State, config: Mapping[str, Any]) -> State:
    """The original's names, with or without their prefix, to diffusers'; the tensors are the same.

    Raises:
        TaskError: `model_mismatch` with the missing, unexpected or misshapen names, as the file has them; `not_finite`.
    """
    names = {original: name for name, original in original_names(config).items()}
    if not any(name.startswith(PREFIX) for name in state):
        names = {original.removeprefix(PREFIX): name for original, name in names.items()}
    missing, extra = sorted(names.keys() - state.keys()), sorted(state.keys() - names.keys())
    if missing or extra:
        raise TaskError("model_mismatch", f"weights: missing {missing}, unexpected {extra}", (missing or extra)[0])
    converted = {name: state[original] for original, name in names.items()}
    check_state(converted, _empty(config))
    return converted


def write_single_file(state: State, config: Mapping[str, Any], path: Path, card: Mapping[str, Any]) -> None:
    """A safetensors file under the original's names; its metadata hold `card` and the config, under `config`.

    Raises:
        TaskError: `model_mismatch` with the names at fault, `not_finite`.
    """
    ours = json.dumps({**card, "config": kept(config)})  # one key: safetensors keeps no order of several
    save_tensors(to_original(state, config), path, {METADATA: ours})


def read_single_file(path: Path, config: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], State]:
    """Diffusers' config and state of such a file.

    Args:
        path: a safetensors file.
        config: left out, it is that of the file's metadata, or of Stable Diffusion 1 or 2 by the text states' width.

    Raises:
        TaskError: `unsafe_weights`, `unreadable_weights`, `not_finite`, or `model_mismatch` with the names at fault.
    """
    if path.suffix != ".safetensors":
        raise TaskError("unsafe_weights", f"{path.name} can carry code: only safetensors are read", path.name)
    state = unwrapped(read_safetensors(path))
    check_tensors(state)
    found = dict(config if config is not None else _stated_config(path) or _config_by_shape(state, path.name))
    check_sizes(found, path.name)
    return found, to_diffusers(state, found)


def unlike_published(config: Mapping[str, Any]) -> list[str]:
    """Fields in which a config is none of Stable Diffusion 1 and 2, which alone ComfyUI and A1111 know."""
    full = {name: _plain(value) for name, value in dict(_empty(config).config).items()}
    odd = [name for name, value in _READERS.items() if full[name] != _plain(value)]
    version = _VERSIONS.get(full["cross_attention_dim"], _VERSIONS[768])
    return sorted(odd + [name for name, value in version.items() if full[name] != _plain(value)])


def _original(name: str, layers: int) -> str:
    """Return the original's name of a weight, without the prefix."""
    module, _, kind = name.rpartition(".")
    if module in _OUTER:
        return f"{_OUTER[module]}.{kind}"
    for pattern, renamed in _NUMBERED:
        if found := pattern.fullmatch(module):
            return f"{renamed(found, layers)}.{kind}"
    message = f"no ControlNet of Stable Diffusion: the original's names have no place for {name}"
    raise TaskError("model_mismatch", message, name)


def _encoder_part(block: str, layer: str | int, layers: int) -> str:
    """The input convolution is 0; then come each block's layers and its downsampler."""
    return f"input_blocks.{1 + int(block) * (layers + 1) + int(layer)}"


def _stated_config(path: Path) -> dict[str, Any] | None:
    """The config in a file of ours."""
    try:
        with safe_open(path, "pt") as file:
            stated = json.loads((file.metadata() or {}).get(METADATA, "{}")).get("config")
    except (OSError, ValueError, AttributeError, SafetensorError):
        return None
    return stated if isinstance(stated, dict) else None


def _config_by_shape(state: State, name: str) -> dict[str, Any]:
    weight = state.get(f"{PREFIX}{_TEXT_WIDTH}", state.get(_TEXT_WIDTH))
    width = weight.shape[-1] if weight is not None else None
    if width not in _VERSIONS:
        what = f"text states of width {width}" if width else f"no {_TEXT_WIDTH}"
        message = f"{name} has {what}: it is no ControlNet of Stable Diffusion 1 or 2, and its metadata hold no config"
        raise TaskError("model_mismatch", message, name)
    return {"_class_name": "ControlNetModel", **_READERS, **_VERSIONS[width]}


def _empty(config: Mapping[str, Any]) -> Any:
    """A `ControlNetModel` of this config without storage."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    maker: Any = ControlNetModel
    with reading("ControlNet config", "config.json"), torch.device("meta"):
        return maker.from_config(dict(config))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
