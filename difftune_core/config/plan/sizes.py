"""What a planner asks of a network: how much memory its weights, a step and a sample take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from difftune_core.config.adapter import Adapter
from difftune_core.config.card import BaseModelCard
from difftune_core.config.run import PrecisionName

FLOAT = 4
"""Bytes of a float32."""
HALF = 2
"""Bytes of a float16 or bfloat16."""
TEXT_BATCH = 64
"""Prompts that are encoded at once (`difftune_core.networks.text`)."""


class Moment(NamedTuple):
    """A moment of a step at which a plan looks."""

    activations: int
    """Bytes of an image that are there."""
    gradients: float
    """Share of the gradients that have come about."""


@runtime_checkable  # the tests check arguments at run time
class Pass(Protocol):
    """An image's way through a network that is trained."""

    @property
    def saved(self) -> int:
        """Bytes that the pass leaves for the backward pass where nothing is computed again."""
        ...

    def moments(self, *, checkpointing: bool) -> list[Moment]:
        """Tell of the moments in which most is there."""
        ...


@runtime_checkable
class PassOf(Protocol):
    """How an image goes through a network in a precision."""

    def __call__(self, precision: PrecisionName, *, on_gpu: bool = False) -> Pass:
        """Give the pass on a GPU, or on a CPU, where autocast leaves other parts in float32."""
        ...


@dataclass(frozen=True)
class Activations:
    """What an image leaves in memory on its way through equal blocks that are trained, in bytes."""

    saved: int
    """Bytes for the backward pass, where nothing is computed again."""
    inputs: int
    """Bytes for it where blocks are computed again: what goes into each of them, and what stands outside them."""
    block: int
    """Bytes of one block: what is computed again at a time."""
    working: int
    """Bytes that the backward pass of a block has beside those of its forward pass."""
    blocks: int = 1
    """Number of the blocks."""

    def moments(self, *, checkpointing: bool) -> list[Moment]:
        """Tell of the last block, where the backward pass begins, and of the first, where it ends."""
        first = Moment(self.first(checkpointing=checkpointing), 0.0)
        return [first, Moment(self.last(), 1 - 1 / self.blocks)]

    def first(self, *, checkpointing: bool) -> int:
        """Return what is there when the backward pass begins, in the last block."""
        return (self.inputs + self.block if checkpointing else self.saved) + self.working

    def last(self) -> int:
        """Return what is there when the backward pass comes to the first block: that block's own."""
        return self.block + self.working


class AutoencoderAnatomy(BaseModel):
    """Anatomy of an AutoencoderKL, as far as memory depends on it; a card states it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    block_out_channels: tuple[int, ...] = Field(min_length=1)
    """Channels of each level, from the pixels down."""
    num_parameters: int = Field(ge=0)

    def budget_bytes(self, image_size: int) -> int:
        """Return the bytes by which images that are encoded or decoded at once are counted."""
        return 4 * FLOAT * self.block_out_channels[0] * image_size**2

    def decoding_bytes(self, image_size: int) -> int:
        """Return what an image takes while it is decoded.

        The widest place is the first residual block at the size of the image: its input, the normed input and that
        through SiLU have the channels of the level below.
        """
        below = self.block_out_channels[min(1, len(self.block_out_channels) - 1)]
        return 3 * FLOAT * below * image_size**2

    def encoding_bytes(self, image_size: int) -> int:
        """Return what an image takes while it is encoded: in the first level, before it is padded and halved."""
        return 5 * FLOAT * self.block_out_channels[0] * image_size**2


class TextAnatomy(BaseModel):
    """Anatomy of CLIP's text encoder, as far as memory depends on it; a card states it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    hidden_size: int = Field(ge=1)
    tokens: int = Field(ge=1)
    """Number of tokens of a prompt."""
    num_parameters: int = Field(ge=0)

    def encoding_bytes(self) -> int:
        """Return what the prompts take that are encoded at once: both inner parts of the MLP, and six rows more."""
        return TEXT_BATCH * self.tokens * self.hidden_size * FLOAT * (2 * 4 + 6)


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """A network that is trained, with what stands beside it."""

    parameters: int
    """Number of the network's parameters, adapters included."""
    trained: int
    """How many of the parameters are trained."""
    beside: int = 0
    """Parameters of frozen networks that each step passes through or asks."""
    cast: int
    """Weights that autocast copies once a pass."""
    activations: PassOf | None
    """An image's way through the network; None where that is not known."""
    drawing: int | None
    """Bytes that an image takes in one pass without gradients; None where that is not known."""
    latent: tuple[int, int, int]
    """Channels, height and width."""
    drawing_budget: int | None = None
    """Bytes by which images that are drawn at once are counted: what the code that draws takes a pass for."""
    drawing_most: int = 128
    """Images that are drawn at once, at most (`difftune_core.diffusion.reverse`)."""
    autoencoder: AutoencoderAnatomy | None
    text: TextAnatomy | None = None
    """What encodes prompts, before the first step."""
    control_bytes: int = 0
    """Bytes of the control image beside each image."""

    @property
    def is_known(self) -> bool:
        """Whether the anatomy is known, and not the number of parameters alone."""
        return self.activations is not None

    @property
    def is_full(self) -> bool:
        """Whether all of the network is trained."""
        return self.trained > self.parameters // 2

    @property
    def is_asked_beside(self) -> bool:
        """Whether a copy of the untuned network has to be loaded to be asked: nothing of the tuned one is frozen."""
        return self.is_full and not self.beside


def autoencoder_of(anatomy: Mapping[str, Any]) -> AutoencoderAnatomy | None:
    """Read what a card's anatomy says of the autoencoder; None where it says nothing."""
    stated = anatomy.get("autoencoder")
    return None if stated is None else AutoencoderAnatomy.model_validate(stated)


def text_of(anatomy: Mapping[str, Any]) -> TextAnatomy | None:
    """Read what a card's anatomy says of the text encoder; None where it says nothing."""
    stated = anatomy.get("text_encoder")
    return None if stated is None else TextAnatomy.model_validate(stated)


def size_by_parameters(card: BaseModelCard, adapter: Adapter, *, share: float = 1.0) -> NetworkSize:
    """Size a network of which the number of parameters is all that is known.

    Args:
        card: of the base model; its latents are taken for four channels of an eighth of the image.
        adapter: what is trained; of an adapter a hundredth of the network, which none of the defaults reach.
        share: of the base model's parameters that the trained network has, where the base model is frozen beside it.
    """
    parameters = int(card.num_parameters * share)
    side = max(1, card.image_size // 8)
    return NetworkSize(
        parameters=parameters,
        trained=parameters if adapter.type == "full" else parameters // 100,
        beside=0 if share == 1 else card.num_parameters,
        cast=parameters,
        activations=None,
        drawing=None,
        latent=(4, side, side),
        autoencoder=autoencoder_of(card.anatomy),
    )
