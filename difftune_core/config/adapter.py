"""Which parameters are trained: settings of the adapters in `difftune_core.adapters`, free of torch.

Every adapter but `full` freezes the base model and trains what it names, and the label table whole: new classes have
no other place. Counts below are of DiT-XL/2 at 256 px (675.13 M parameters); the label table adds 1152 (K + 1).
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from difftune_core.config.frozen import Frozen
from difftune_core.hooks import TaskError

DIT_LINEAR_LAYERS = (
    "t_embedder.mlp.0",
    "t_embedder.mlp.2",
    "blocks.0.attn.qkv",
    "blocks.0.attn.proj",
    "blocks.0.mlp.fc1",
    "blocks.0.mlp.fc2",
    "blocks.0.adaLN_modulation.1",
    "final_layer.linear",
    "final_layer.adaLN_modulation.1",
)
"""The linear layers of a DiT with one block."""


class FullTuning(Frozen):
    """Every parameter is trained."""

    mergeable: ClassVar[bool] = True
    type: Literal["full"] = "full"


class Lora(Frozen):
    """Low-rank updates W + (alpha / rank) B A (Hu et al. 2022), by peft."""

    mergeable: ClassVar[bool] = True
    type: Literal["lora"]
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of an update."""
    alpha: Annotated[float, Field(gt=0, le=10_000)] = 8.0
    """The update is scaled by alpha / rank."""
    use_dora: bool = False
    """DoRA (Liu et al. 2024): the rows' lengths are trained apart from their directions."""
    targets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "attn.qkv",
        "attn.proj",
    )
    """Ends of the names of linear layers, at a dot: `attn.qkv`, `mlp.fc1`, `blocks.0.mlp.fc2`. The published 0.17 %
    (rank 8) and 0.32 % (rank 16) are those of `attn.qkv` alone with the 102 label rows of Food-101."""


class DiffFit(Frozen):
    """Biases, and scale factors of 1 in the first blocks (Xie et al. 2023)."""

    mergeable: ClassVar[bool] = True
    type: Literal["difffit"]
    last_block: Annotated[int, Field(ge=1)] = 14
    """Scale factors are in blocks 1 to this one; 14 of 28 in the paper."""


class BitFit(Frozen):
    """Biases only (Zaken et al. 2022): 489,632 parameters."""

    mergeable: ClassVar[bool] = True
    type: Literal["bitfit"]


class AdaptFormer(Frozen):
    """A bottleneck beside or behind each MLP (Chen et al. 2022). Cannot be merged into the weights."""

    mergeable: ClassVar[bool] = False
    type: Literal["adaptformer"]
    bottleneck: Annotated[int, Field(ge=1, le=8192)] = 64
    """Width; 64 gives the published 0.63 %."""
    scale: Annotated[float, Field(gt=0, le=100)] = 0.1
    """Factor of the bottleneck's output."""
    mode: Literal["parallel", "sequential"] = "parallel"
    """`parallel` feeds the adapter the MLP's input, `sequential` the MLP's output."""


class VisualPrompt(Frozen):
    """VPT-deep (Jia et al. 2022): trained tokens of its own in each block's attention. Cannot be merged."""

    mergeable: ClassVar[bool] = False
    type: Literal["vpt"]
    num_tokens: Annotated[int, Field(ge=1, le=4096)] = 84
    """Tokens in each block. The published count, 0.42 %, is that of 84; the paper's own number is not known."""
    zero_gate: bool = True
    """Whether what the tokens add is gated by tanh(g) per head, g = 0 at the start, so that tuning begins at the base
    model (Zhang et al. 2023). Else tokens join the attention's softmax as published, and disturb it at the start."""


Adapter = Annotated[
    FullTuning | Lora | DiffFit | BitFit | AdaptFormer | VisualPrompt,
    Field(discriminator="type"),
]


def check_targets(adapter: Adapter, param: str) -> None:
    """Refuse a LoRA target that no linear layer of a DiT ends in, whatever the number of its block.

    Raises:
        TaskError: `adapter_matches_nothing`, naming `param`.
    """
    if not isinstance(adapter, Lora):
        return
    for target in adapter.targets:
        of_first = re.sub(r"(?<![^.])blocks\.\d+(?![^.])", "blocks.0", target)
        if not any(f".{name}".endswith(f".{of_first}") for name in DIT_LINEAR_LAYERS):
            ends = ", ".join(sorted({name.removeprefix("blocks.0.") for name in DIT_LINEAR_LAYERS}))
            message = f"no linear layer of a DiT is named {target}; there are {ends}"
            raise TaskError("adapter_matches_nothing", message, param)
