"""How much a DiT takes, from its anatomy: parameters, activations, samples. Free of torch.

Lengths are counted in rows: a row is the hidden size d of one token of one image. A block of full tuning saves for its
backward pass 20 of them where the MLP is 4 d wide, in the order in which they come about:

    the block's input 1, its norm 1, that modulated (the input of qkv) 1, query, key and value 3, what attention gives 1
    (the input of proj), the gated output of proj 1; the second branch's input 1, its norm 1, that modulated (the input
    of fc1) 1, the output of fc1 4, GELU of it (the input of fc2) 4, the gated output of fc2 1.

Softmax weights are not among them: attention is computed in tiles and keeps one number a head and token. Under autocast
inputs and norms of both branches stay float32, all else is half as large. A frozen linear layer does not need its
input. Counted by hand, and held to what autograd keeps by `tests/core/plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from difftune_core.config.adapter import DIT_LINEAR_LAYERS, Adapter, AdaptFormer, BitFit, DiffFit, Lora, VisualPrompt
from difftune_core.config.plan.sizes import FLOAT, HALF, Activations, NetworkSize, autoencoder_of
from difftune_core.config.run import PrecisionName

_FREQUENCIES = 256  # inputs of the timestep embedder
_WHOLE_ROWS = 4  # of those that a block saves, those that stay float32 under autocast


class DiTAnatomy(BaseModel):
    """Anatomy of a DiT, as its `config.json` and its card state it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    input_size: int = Field(ge=1)
    patch_size: int = Field(ge=1)
    in_channels: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    depth: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    num_classes: int = Field(ge=0)
    learn_sigma: bool = True

    @property
    def tokens(self) -> int:
        """Number of an image's tokens."""
        return (self.input_size // self.patch_size) ** 2

    @property
    def row(self) -> int:
        """Numbers of a row: the hidden size of all tokens of an image."""
        return self.tokens * self.hidden_size

    @property
    def patch(self) -> int:
        """Numbers that a patch has on its way out."""
        return self.patch_size**2 * self.in_channels * (2 if self.learn_sigma else 1)

    def layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers by name, those of one block for all blocks."""
        d, inner = self.hidden_size, int(self.hidden_size * self.mlp_ratio)
        sizes = [(_FREQUENCIES, d), (d, d), (d, 3 * d), (d, d), (d, inner), (inner, d), (d, 6 * d)]
        return dict(zip(DIT_LINEAR_LAYERS, [*sizes, (d, self.patch), (d, 2 * d)], strict=True))

    def times(self, layer: str) -> int:
        """Return how often the network has a layer."""
        return self.depth if layer.startswith("blocks.") else 1


def parameters(anatomy: DiTAnatomy) -> int:
    """Count the parameters, the position table among them."""
    d, into = anatomy.hidden_size, anatomy.patch_size**2 * anatomy.in_channels
    linear = sum(anatomy.times(name) * (i * o + o) for name, (i, o) in anatomy.layers().items())
    return linear + (into * d + d) + (anatomy.num_classes + 1) * d + anatomy.row


def _biases(anatomy: DiTAnatomy) -> int:
    return sum(anatomy.times(name) * o for name, (_, o) in anatomy.layers().items()) + anatomy.hidden_size


def _lora_layers(anatomy: DiTAnatomy, adapter: Lora) -> dict[str, tuple[int, int, int]]:
    """Inputs, outputs and number of the layers that targets end, in every block or in those that they name."""
    found: dict[str, tuple[int, int, int]] = {}
    for name, (inputs, outputs) in anatomy.layers().items():
        places = [name.replace("blocks.0.", f"blocks.{i}.") for i in range(anatomy.times(name))]
        count = sum(any(f".{place}".endswith(f".{target}") for target in adapter.targets) for place in places)
        if count:
            found[name] = inputs, outputs, count
    return found


def added(anatomy: DiTAnatomy, adapter: Adapter) -> int:
    """Count the parameters that an adapter brings."""
    d, depth = anatomy.hidden_size, anatomy.depth
    match adapter:
        case Lora():
            length = 1 if adapter.use_dora else 0
            layers = _lora_layers(anatomy, adapter).values()
            return sum(count * (adapter.rank * (i + o) + length * o) for i, o, count in layers)
        case DiffFit():
            return 6 * d * min(adapter.last_block, depth)
        case AdaptFormer():
            return depth * (2 * d * adapter.bottleneck + adapter.bottleneck + d)
        case VisualPrompt():
            return depth * (adapter.num_tokens * d + (anatomy.num_heads if adapter.zero_gate else 0))
        case _:
            return 0


def trained(anatomy: DiTAnatomy, adapter: Adapter) -> int:
    """Count what is trained: all but the position table, or an adapter with the label table."""
    table = (anatomy.num_classes + 1) * anatomy.hidden_size
    match adapter:
        case BitFit() | DiffFit():
            return _biases(anatomy) + table + added(anatomy, adapter)
        case Lora() | AdaptFormer() | VisualPrompt():
            return table + added(anatomy, adapter)
        case _:
            return parameters(anatomy) - anatomy.row


def _rows(anatomy: DiTAnatomy, adapter: Adapter) -> tuple[float, float]:
    """Rows that a block saves: in all, and bytes of them under autocast by those of a row in float32."""
    inner = anatomy.mlp_ratio
    frozen = 10 + inner  # inputs of linear layers are not kept, but attention keeps what it gave
    halves = frozen - _WHOLE_ROWS
    if adapter.type == "full":
        frozen, halves = frozen + 2 + inner, halves + 2 + inner  # inputs of qkv, fc1 and fc2
    more, more_in_half = _more_rows(anatomy, adapter)
    return frozen + more, _WHOLE_ROWS + halves / 2 + more_in_half


def _more_rows(anatomy: DiTAnatomy, adapter: Adapter) -> tuple[float, float]:
    """Return what an adapter adds to a block's rows: in float32, and under autocast in rows of float32."""
    match adapter:
        case Lora():
            return _rows_of_lora(anatomy, adapter)
        case DiffFit():
            share = min(adapter.last_block, anatomy.depth) / anatomy.depth
            return 5 * share, 3.5 * share  # outputs of qkv 3, proj 1 and fc2 1 before they are scaled, to float32
        case AdaptFormer():
            width = adapter.bottleneck / anatomy.hidden_size
            return 1 + width, (1 + width) / 2
        case VisualPrompt():
            prompts = adapter.num_tokens / anatomy.tokens
            rows = (1 if adapter.zero_gate else 2) + 2 * prompts  # a second result, or joined keys and values
            return rows, rows / 2
        case _:
            return 0.0, 0.0


def _rows_of_lora(anatomy: DiTAnatomy, adapter: Lora) -> tuple[float, float]:
    """Inputs that a frozen layer would not keep, what is between A and B, and for DoRA two outputs of the layer."""
    d, rows, halves = anatomy.hidden_size, 0.0, 0.0
    kept = {"attn.qkv": 1.0, "mlp.fc1": 1.0, "mlp.fc2": anatomy.mlp_ratio}  # the input of proj is kept anyhow
    for name, (_, outputs, count) in _lora_layers(anatomy, adapter).items():
        if name.startswith("blocks.") and "adaLN" not in name:
            share = count / anatomy.depth
            own = kept.get(name.removeprefix("blocks.0."), 0.0) + adapter.rank / d
            dora = outputs / d if adapter.use_dora else 0.0
            rows, halves = rows + share * (own + 2 * dora), halves + share * (own / 2 + 1.5 * dora)
    return rows, halves


def activations(anatomy: DiTAnatomy, adapter: Adapter, precision: PrecisionName) -> Activations:
    """Count what an image leaves in memory."""
    d, row = anatomy.hidden_size, anatomy.row
    whole, in_half = _rows(anatomy, adapter)
    rows = whole if precision == "fp32" else in_half
    size = FLOAT if precision == "fp32" else HALF
    # Of tokens: mean and deviation of two norms, and a number for each head. Of the condition: two scales, the six
    # parts, and SiLU.
    small = FLOAT * (anatomy.tokens * (4 + anatomy.num_heads) + 2 * d) + size * 7 * d
    block = int(FLOAT * rows * row + small)
    last = 2 * FLOAT + (
        size if adapter.type == "full" else 0
    )  # its input, norm, and where it is trained that modulated
    ends = last * row + size * 6 * d + FLOAT * anatomy.in_channels * anatomy.input_size**2
    return Activations(
        saved=anatomy.depth * block + ends,
        inputs=FLOAT * (anatomy.depth * (row + d)) + ends,
        block=block,
        working=int(size * 2 * (1 + anatomy.mlp_ratio) * row),  # gradients of the MLP's parts
        blocks=anatomy.depth,
    )


def network_size(stated: Mapping[str, Any], adapter: Adapter, num_classes: int | None) -> NetworkSize:
    """Size a DiT that is tuned.

    Args:
        stated: the card's anatomy.
        adapter: what is trained.
        num_classes: of the target, where they are known; the table is as long as theirs.

    Raises:
        pydantic.ValidationError: the anatomy is not one of a DiT.
    """
    anatomy = DiTAnatomy.model_validate(stated)
    if num_classes is not None:
        anatomy = anatomy.model_copy(update={"num_classes": num_classes})
    weights = sum(anatomy.times(name) * i * o for name, (i, o) in anatomy.layers().items())
    return NetworkSize(
        parameters=parameters(anatomy) + added(anatomy, adapter),
        trained=trained(anatomy, adapter),
        cast=weights + _biases(anatomy),
        activations=lambda precision, *, on_gpu=False: activations(anatomy, adapter, precision),  # noqa: ARG005  # of no use here
        # Tokens, their norm and that modulated, and both inner parts of the MLP.
        drawing=int(FLOAT * (3 + 2 * anatomy.mlp_ratio) * anatomy.row),
        drawing_budget=int(FLOAT * (8 + 2 * anatomy.mlp_ratio) * anatomy.row),
        latent=(anatomy.in_channels, anatomy.input_size, anatomy.input_size),
        autoencoder=autoencoder_of(stated),
    )
