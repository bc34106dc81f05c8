"""Parameters of a ControlNet, part by part. Free of torch."""

from __future__ import annotations

from itertools import pairwise

from difftune_core.config.adapter import Lora
from difftune_core.families.controlnet.anatomy import (
    EMBEDDED,
    Attention,
    Part,
    Resampling,
    Resnet,
    UNetAnatomy,
)


def parameters(anatomy: UNetAnatomy, part: Part) -> int:
    """Count the parameters of a part that a ControlNet has of its UNet."""
    match part:
        case Resnet():
            i, c, embedded = part.inputs, part.channels, 4 * anatomy.block_out_channels[0]
            shortcut = i * c + c if i != c else 0
            return 2 * i + _conv(i, c) + embedded * c + c + 2 * c + _conv(c, c) + shortcut
        case Attention():
            c, text = part.channels, anatomy.cross_attention_dim
            attention = 3 * c * c + (c * c + c)
            cross = c * c + 2 * text * c + (c * c + c)
            wide = (8 * c * c + 8 * c) + (4 * c * c + c)
            return 2 * c + 2 * (c * c + c) + anatomy.transformer_layers * (6 * c + attention + cross + wide)
        case Resampling():
            return _conv(part.channels, part.channels)
        case _:
            return 0


def own_parameters(anatomy: UNetAnatomy) -> tuple[int, int]:
    """Count parameters outside the parts: what embeds control, latents and timestep, and convolutions of zeros."""
    c = anatomy.block_out_channels[0]
    control = _conv(3, EMBEDDED[0]) + _conv(EMBEDDED[-1], c)
    control += sum(_conv(a, a) + _conv(a, b) for a, b in pairwise(EMBEDDED))
    before = _conv(anatomy.in_channels, c) + (c * 4 * c + 4 * c) + (16 * c * c + 4 * c)
    zeros = sum(channels * channels + channels for channels, _ in anatomy.skips())
    middle = anatomy.block_out_channels[-1]
    return control + before, zeros + middle * middle + middle


def trained_beside(anatomy: UNetAnatomy) -> int:
    """Count what is trained beside an adapter: all that the UNet has no counterpart of."""
    c = anatomy.block_out_channels[0]
    shared = _conv(anatomy.in_channels, c) + (c * 4 * c + 4 * c) + (16 * c * c + 4 * c)
    return sum(own_parameters(anatomy)) - shared


def linear_layers(anatomy: UNetAnatomy, part: Part) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a part's linear layers, by their names in it; of one transformer block for all."""
    match part:
        case Resnet():
            return {"time_emb_proj": (4 * anatomy.block_out_channels[0], part.channels)}
        case Attention():
            c, text = part.channels, anatomy.cross_attention_dim
            own = {f"attn1.to_{name}": (c, c) for name in ("q", "k", "v", "out.0")}
            other = {"attn2.to_q": (c, c), "attn2.to_k": (text, c), "attn2.to_v": (text, c), "attn2.to_out.0": (c, c)}
            wide = {"ff.net.0.proj": (c, 8 * c), "ff.net.2": (4 * c, c)}
            return (
                own | other | wide | ({"proj_in": (c, c), "proj_out": (c, c)} if anatomy.use_linear_projection else {})
            )
        case _:
            return {}


def lora_layers(anatomy: UNetAnatomy, part: Part, lora: Lora) -> dict[str, tuple[int, int]]:
    """Find a part's linear layers whose names end in one of LoRA's targets."""
    named = getattr(part, "name", "")
    found = {}
    for layer, size in linear_layers(anatomy, part).items():
        inner = "" if layer.startswith(("proj_", "time_")) else "transformer_blocks.0."
        if any(f".{named}.{inner}{layer}".endswith(f".{target}") for target in lora.targets):
            found[layer] = size
    return found


def lora_parameters(anatomy: UNetAnatomy, part: Part, lora: Lora | None) -> int:
    """Count what LoRA puts beside a part's layers; DoRA has a length for each output too."""
    if lora is None:
        return 0
    times = anatomy.transformer_layers if isinstance(part, Attention) else 1
    lengths = 1 if lora.use_dora else 0
    return sum(
        (1 if layer.startswith("proj_") else times) * (lora.rank * (i + o) + lengths * o)
        for layer, (i, o) in lora_layers(anatomy, part, lora).items()
    )


def _conv(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + outputs
