"""How much a ControlNet takes beside its frozen UNet: parameters, activations, samples. Free of torch.

A pass goes through the ControlNet, then through the UNet's way up; the UNet's way down depends on nothing that is
trained and leaves nothing. What is left of a part, in maps of its c channels and p places (a resnet has inputs of i):

    a resnet: input of the first norm i, of SiLU i, of the convolution i, and the same of the second, 3 c;
    attention: inputs of the norm and of both projections 3; of each of its transformer blocks, inputs of three norms 3,
    query, key and value 3, what attention gives 1, query of the prompt's attention 1, what that gives 1, both halves
    before GEGLU 8, GELU of one of them 4; and where linear layers are trained, the inputs of them that are none of
    these: the three norms' outputs 3, GEGLU's output 4.

A frozen convolution keeps its input all the same, a frozen linear layer does not. Under autocast a GPU computes norms
and SiLU after them in float32, and keeps copies of halves for that; a CPU computes them in half. Counted by hand, and
held to what autograd keeps by `tests/core/plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from difftune_core.config.adapter import Adapter, Lora
from difftune_core.config.card import BaseModelCard
from difftune_core.config.plan.sizes import FLOAT, HALF, Moment, NetworkSize, autoencoder_of, text_of
from difftune_core.config.run import PrecisionName
from difftune_core.families.controlnet.anatomy import (
    EMBEDDED,
    Attention,
    Embedding,
    Ends,
    Part,
    Resampling,
    Resnet,
    UNetAnatomy,
    WayName,
)
from difftune_core.families.controlnet.parameters import (
    lora_layers,
    lora_parameters,
    own_parameters,
    parameters,
    trained_beside,
)

_TOKENS = 77
_BACKWARD_ATTENTION, _BACKWARD_RESNET = 18, 4
"""Maps that the backward pass of a part has beside what was left: of attention, gradients of GEGLU's halves."""
_FORWARD_ATTENTION = 25
"""Maps that attention has at most where nothing is learned, with what the blocks around it hold."""
_HELD, _BATCH = 60, 32
"""Equal to those by which `difftune_core.families.controlnet.draw` counts images that are drawn at once."""


@dataclass(frozen=True)
class Kept:
    """Numbers that a part leaves for the backward pass."""

    whole: float = 0.0
    """Numbers that stay float32 on a GPU under autocast."""
    half: float = 0.0
    copies: float = 0.0
    """Halves that a GPU keeps beside a float32 copy of them, and that are one and the same tensor elsewhere."""

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.whole + other.whole, self.half + other.half, self.copies + other.copies)

    def nbytes(self, precision: PrecisionName, *, on_gpu: bool) -> int:
        """Return the bytes of all numbers that are kept."""
        if precision == "fp32":
            return int(FLOAT * (self.whole + self.half))
        if on_gpu:
            return int(FLOAT * self.whole + HALF * (self.half + self.copies))
        return int(HALF * (self.whole + self.half))


@dataclass(frozen=True)
class _Unit:
    """A part of the pass: what it leaves, and what it leaves where it is computed again; numbers of one image."""

    kept: Kept
    again: Kept
    """What the part leaves where it is computed again."""
    inner: Kept
    """What computing the part again brings back, at once."""
    backward: float
    gradients: int
    """Parameters whose gradients its backward pass brings."""


@dataclass(frozen=True)
class Passage:
    """A ControlNet's pass, whose moments of most memory a plan looks at."""

    units: tuple[_Unit, ...]
    precision: PrecisionName
    on_gpu: bool

    def moments(self, *, checkpointing: bool) -> list[Moment]:
        """Tell of each part, when the backward pass comes to it, what is there and which gradients are."""
        found, left, trained = [], Kept(), max(1, sum(unit.gradients for unit in self.units))
        to_come = trained
        for unit in self.units:
            left = left + (unit.again if checkpointing else unit.kept)
            here = left + unit.inner if checkpointing else left
            working = Kept(half=unit.backward).nbytes(self.precision, on_gpu=self.on_gpu)
            to_come -= unit.gradients
            nbytes = here.nbytes(self.precision, on_gpu=self.on_gpu) + working
            found.append(Moment(nbytes, to_come / trained))
        return found

    @property
    def saved(self) -> int:
        """Bytes that the whole pass leaves where nothing is computed again."""
        return sum((unit.kept for unit in self.units), Kept()).nbytes(self.precision, on_gpu=self.on_gpu)


def passage(anatomy: UNetAnatomy, adapter: Adapter, precision: PrecisionName, *, on_gpu: bool) -> Passage:
    """List the parts that an image passes, the control's embedding first."""
    way: WayName = "full" if adapter.type == "full" else "lora"
    lora = adapter if isinstance(adapter, Lora) else None
    own = own_parameters(anatomy)
    units = [_Unit(kept := _embedding(anatomy.embedding()), kept, Kept(), 16.0 * anatomy.embedding().pixels, own[0])]
    for part in [*(part for _, part in anatomy.down()), *anatomy.middle()]:
        trained = parameters(anatomy, part) if way == "full" else lora_parameters(anatomy, part, lora)
        units.append(_unit(anatomy, part, way, lora, trained))
    skips = Kept(half=_maps(*anatomy.skips()[-1]), copies=sum((_maps(*skip) for skip in anatomy.skips()), 0.0))
    units.append(_Unit(skips, skips, Kept(), 0.0, own[1]))
    units += [_unit(anatomy, part, "frozen", None, 0) for _, part in anatomy.up()]
    return Passage(tuple(units), precision, on_gpu)


def _maps(channels: int, places: int) -> float:
    return float(channels * places)


def _unit(anatomy: UNetAnatomy, part: Part, way: WayName, lora: Lora | None, trained: int) -> _Unit:
    match part:
        case Resnet():
            first, second = _maps(part.inputs, part.places), _maps(part.channels, part.places)
            shortcut = first if part.inputs != part.channels else 0.0
            kept = Kept(2 * (first + second), first + second, shortcut)
            return _Unit(kept, Kept(half=first), kept, _BACKWARD_RESNET * second, trained)
        case Attention():
            ends, block = _attention(anatomy, part, way, lora)
            again = ends + Kept(half=anatomy.transformer_layers * _maps(part.channels, part.places))
            layers = Kept(*(anatomy.transformer_layers * each for each in (block.whole, block.half, block.copies)))
            working = _BACKWARD_ATTENTION * _maps(part.channels, part.places)
            return _Unit(ends + layers, again, block, working, trained)
        case Resampling():
            kept = Kept(half=_maps(part.channels, part.places))
            return _Unit(kept, kept, Kept(), 2 * _maps(part.channels, part.places), trained)
        case Ends():
            one = _maps(part.channels, part.places)
            return _Unit(kept := Kept(2 * one, one), kept, Kept(), 2 * one, trained)
        case Embedding():
            raise AssertionError("the first part, counted apart")


def _attention(anatomy: UNetAnatomy, part: Attention, way: WayName, lora: Lora | None) -> tuple[Kept, Kept]:
    """Return what attention leaves around its transformer blocks, and what one of them does."""
    one, is_full = _maps(part.channels, part.places), way == "full"
    projected = 2 if is_full or not anatomy.use_linear_projection else 0
    ends = Kept(one, projected * one)
    small = part.places * (2 * part.heads + 6)
    halves = 18 + (7 if is_full else 0)
    block = Kept(3 * one + small, halves * one + 4 * _TOKENS * part.channels)
    return ends, block + (Kept() if lora is None else _beside(anatomy, part, lora))


def _beside(anatomy: UNetAnatomy, part: Attention, lora: Lora) -> Kept:
    """Count what LoRA adds to a block: inputs that a frozen layer would not keep, and what is between A and B."""
    c, inputs, between, dora = part.channels, set[str](), 0.0, 0.0
    for layer, (_, outputs) in lora_layers(anatomy, part, lora).items():
        if layer in {"attn2.to_k", "attn2.to_v"}:
            continue  # of the prompt's few tokens
        inputs.add("norm1" if layer in {"attn1.to_q", "attn1.to_k", "attn1.to_v"} else layer)
        between += lora.rank * part.places
        dora += 2 * outputs * part.places if lora.use_dora else 0.0
    rows = {"norm1": 1, "attn2.to_q": 1, "ff.net.0.proj": 1, "ff.net.2": 4, "proj_in": 1, "proj_out": 1}
    kept = sum(rows.get(name, 0) for name in inputs)
    return Kept(dora / 2, kept * c * part.places + between + dora / 2)


def _embedding(part: Embedding) -> Kept:
    """The control in its pixels, and of each convolution after the first SiLU's input and its own."""
    half, pixels = float(3 * part.pixels), part.pixels
    for channels, wider in pairwise(EMBEDDED):
        half += 2 * channels * pixels  # after the convolution that keeps the size, or the one before
        half += 2 * channels * pixels
        pixels //= 4
        if wider == EMBEDDED[-1]:
            half += 2 * wider * pixels
    return Kept(half=half)


def _drawing(anatomy: UNetAnatomy) -> float:
    """Numbers of an image in one pass without gradients: residuals of the ControlNet, summed skips, the widest
    part; or the control, where it is brought in.
    """
    skips = sum(_maps(*skip) for skip in anatomy.skips())
    widest = 0.0
    for level, part in anatomy.up():
        summed = (anatomy.layers_per_block + 1) * _maps(anatomy.block_out_channels[level], anatomy.places(level))
        match part:
            case Resnet():
                widest = max(widest, summed + 3 * _maps(part.inputs, part.places) + _maps(part.channels, part.places))
            case Attention():
                widest = max(widest, summed + _FORWARD_ATTENTION * _maps(part.channels, part.places))
            case _:
                pass
    begins = (3 + 2 * EMBEDDED[0]) * anatomy.embedding().pixels + 2 * _maps(*anatomy.skips()[0])
    return max(skips + widest, begins)


def network_size(stated: Mapping[str, Any], adapter: Adapter, card: BaseModelCard) -> NetworkSize:
    """Size a ControlNet that is tuned beside the UNet of a card.

    Raises:
        pydantic.ValidationError: the anatomy is not one of a UNet.
    """
    anatomy = UNetAnatomy.model_validate(stated["unet"])
    inside = [*(part for _, part in anatomy.down()), *anatomy.middle()]
    own = sum(own_parameters(anatomy))
    whole = own + sum(parameters(anatomy, part) for part in inside)
    lora = adapter if isinstance(adapter, Lora) else None
    added = sum(lora_parameters(anatomy, part, lora) for part in inside)
    side = anatomy.sample_size
    trained = whole if lora is None else trained_beside(anatomy) + added
    return NetworkSize(
        parameters=whole + added,
        trained=trained,
        beside=card.num_parameters,
        cast=trained,
        activations=lambda precision, *, on_gpu=False: passage(anatomy, adapter, precision, on_gpu=on_gpu),
        drawing=int(FLOAT * _drawing(anatomy)),
        drawing_budget=FLOAT * _HELD * side**2 * anatomy.block_out_channels[0],
        drawing_most=_BATCH,
        latent=(anatomy.in_channels, side, side),
        autoencoder=autoencoder_of(stated),
        text=text_of(stated),
        control_bytes=3 * card.image_size**2,
    )
