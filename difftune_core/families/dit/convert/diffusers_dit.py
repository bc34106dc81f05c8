"""A diffusers folder of `DiTPipeline`, or its `transformer/`, as our DiT: the reverse of `checkpoint.export`.

Diffusers keeps a timestep and a label embedder in every block. They must be equal, for ours are shared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difftune_core.families.convert.weights import State, read_component
from difftune_core.families.dit.convert.fitted import Converted, fitted
from difftune_core.families.dit.export import PIPELINE_NULL_LABEL
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiTConfig

Count = Annotated[int, Field(ge=1, le=65_536)]
_OWN_EPS = 1e-6
_OUTER = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_BLOCK = {
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
_QUERY_KEY_VALUE = ("attn1.to_q", "attn1.to_k", "attn1.to_v")
_EMBEDDERS = {
    "t_embedder.mlp.0.weight": "norm1.emb.timestep_embedder.linear_1.weight",
    "t_embedder.mlp.0.bias": "norm1.emb.timestep_embedder.linear_1.bias",
    "t_embedder.mlp.2.weight": "norm1.emb.timestep_embedder.linear_2.weight",
    "t_embedder.mlp.2.bias": "norm1.emb.timestep_embedder.linear_2.bias",
    "y_embedder.embedding_table.weight": "norm1.emb.class_embedder.embedding_table.weight",
}
_KINDS = ("weight", "bias")
_POSITIONS = "pos_embed.pos_embed"  # older diffusers saved this fixed buffer
_TABLE = "y_embedder.embedding_table.weight"


class _Config(BaseModel):
    """What of `config.json` decides the function; diffusers' defaults where it is silent."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    class_name: Literal["DiTTransformer2DModel", "Transformer2DModel"] = Field(alias="_class_name")
    num_attention_heads: Count = 16
    attention_head_dim: Count = 72
    in_channels: Count = 4
    out_channels: Count | None = None
    num_layers: Count = 28
    attention_bias: Literal[True] = True
    sample_size: Annotated[int, Field(ge=1, le=1024)] = 32
    patch_size: Count = 2
    activation_fn: Literal["gelu-approximate"] = "gelu-approximate"
    num_embeds_ada_norm: Annotated[int, Field(ge=1, le=PIPELINE_NULL_LABEL)] = PIPELINE_NULL_LABEL
    norm_type: Literal["ada_norm_zero"] = "ada_norm_zero"
    norm_elementwise_affine: Literal[False] = False
    norm_eps: Annotated[float, Field(ge=1e-6, le=1e-5)] = 1e-5


def read_diffusers(
    folder: Path,
    *,
    num_classes: int | None = None,
    timestep_frequencies: Literal["original", "diffusers"] = "diffusers",
) -> Converted:
    """A DiT from a diffusers folder with safetensors, in one file or in shards.

    Args:
        folder: of a pipeline, with `transformer/`, or of the transformer itself.
        num_classes: K, where rows K to 999 of the label table are padding with the null row, as our exports pad.
        timestep_frequencies: `diffusers` is the function that the folder computes there; `original` suits weights that
            were trained with the original code and only stored this way.

    Raises:
        TaskError: `unsafe_weights`, `unreadable_weights`, `not_finite`, or `model_mismatch` with the names at fault.
    """
    inner = folder / "transformer"
    raw, theirs = read_component(inner if inner.is_dir() else folder)
    config = _parsed(raw)
    state = from_diffusers_state(theirs, config.num_layers)
    _check_width(state, config)
    if len(state[_TABLE]) != config.num_embeds_ada_norm + 1:
        message = f"a label table of {len(state[_TABLE])} rows for num_embeds_ada_norm {config.num_embeds_ada_norm}"
        raise TaskError("model_mismatch", message, "num_embeds_ada_norm")
    if num_classes is not None:
        state[_TABLE] = unpadded_table(state[_TABLE], num_classes)
    return fitted(state, _anatomy(config, state, timestep_frequencies), _notes(config))


def from_diffusers_state(theirs: State, depth: int) -> State:
    """Names of `DiTTransformer2DModel` to ours; values and table are not changed.

    Raises:
        TaskError: `model_mismatch` with missing or unexpected names, or with the embedders in which blocks differ.
    """
    outer = {f"{ours}.{kind}": f"{name}.{kind}" for ours, name in _OUTER.items() for kind in _KINDS}
    blocks = [_block_names(i) for i in range(min(depth, len(theirs)))]
    wanted = {*outer.values(), *(name for block in blocks for names in block.values() for name in names)}
    wanted |= {f"transformer_blocks.{i}.{name}" for i in range(len(blocks)) for name in _EMBEDDERS.values()}
    missing, extra = sorted(wanted - theirs.keys()), sorted(theirs.keys() - wanted - {_POSITIONS})
    if missing or extra:
        raise TaskError("model_mismatch", f"weights: missing {missing}, unexpected {extra}")
    _refuse_different_embedders(theirs, depth)
    state = {ours: theirs[name] for ours, name in outer.items()}
    state |= {ours: theirs[f"transformer_blocks.0.{name}"] for ours, name in _EMBEDDERS.items()}
    for block in blocks:
        state |= {ours: _joined([theirs[name] for name in names], names) for ours, names in block.items()}
    return state | ({"pos_embed": theirs[_POSITIONS]} if _POSITIONS in theirs else {})


def unpadded_table(table: torch.Tensor, num_classes: int) -> torch.Tensor:
    """The first K rows and the null row, which is last. [n, d] -> [K + 1, d].

    Raises:
        TaskError: `model_mismatch` where a row between them is not the null row.
    """
    between = table[num_classes:-1]
    if num_classes >= len(table) or not torch.equal(between, table[-1:].expand_as(between)):
        message = f"the label table of {len(table)} rows is not {num_classes} classes and copies of the null row"
        raise TaskError("model_mismatch", message, "num_classes")
    return torch.cat([table[:num_classes], table[-1:]])


def _block_names(i: int) -> dict[str, list[str]]:
    """Our name -> theirs, in the order in which they are joined."""
    ours, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
    names = {f"{ours}.{own}.{kind}": [f"{theirs}.{name}.{kind}"] for own, name in _BLOCK.items() for kind in _KINDS}
    return names | {
        f"{ours}.attn.qkv.{kind}": [f"{theirs}.{part}.{kind}" for part in _QUERY_KEY_VALUE] for kind in _KINDS
    }


def _joined(parts: list[torch.Tensor], names: list[str]) -> torch.Tensor:
    if len({part.shape for part in parts}) > 1:
        raise TaskError("model_mismatch", f"weights: different shapes in {names}", names[0])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _refuse_different_embedders(theirs: State, depth: int) -> None:
    names = [
        (f"transformer_blocks.0.{n}", f"transformer_blocks.{i}.{n}") for i in range(depth) for n in _EMBEDDERS.values()
    ]
    different = [other for first, other in names if not torch.equal(theirs[first], theirs[other])]
    if different:
        message = f"embedders that differ from those of block 0, and so cannot be shared: {different}"
        raise TaskError("model_mismatch", message, different[0])


def _parsed(raw: dict[str, Any]) -> _Config:
    try:
        return _Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise TaskError("model_mismatch", f"transformer config, {field}: {first['msg']}", field) from None


def _check_width(state: State, config: _Config) -> None:
    """Check the width that the config states before anything is made of it."""
    hidden, found = config.num_attention_heads * config.attention_head_dim, tuple(state[_TABLE].shape)
    if found[1:] != (hidden,):
        raise TaskError("model_mismatch", f"a label table of shape {found} for a width of {hidden}", _TABLE)


def _anatomy(config: _Config, state: State, frequencies: Literal["original", "diffusers"]) -> DiTConfig:
    hidden = config.num_attention_heads * config.attention_head_dim
    outputs = config.in_channels if config.out_channels is None else config.out_channels
    if outputs not in {config.in_channels, 2 * config.in_channels}:
        raise TaskError("model_mismatch", f"transformer config, out_channels: {outputs}", "out_channels")
    return DiTConfig(
        input_size=config.sample_size,
        patch_size=config.patch_size,
        in_channels=config.in_channels,
        hidden_size=hidden,
        depth=config.num_layers,
        num_heads=config.num_attention_heads,
        mlp_ratio=len(state["blocks.0.mlp.fc1.bias"]) / hidden,
        num_classes=len(state[_TABLE]) - 1,
        learn_sigma=outputs == 2 * config.in_channels,
        timestep_frequencies=frequencies,
    )


def _notes(config: _Config) -> tuple[str, ...]:
    if config.norm_eps == _OWN_EPS:
        return ()
    return (f"the folder's norm_eps {config.norm_eps:g} before each MLP becomes {_OWN_EPS:g}, as in the original",)
