"""What a planner asks of a network: how much memory its weights, a step and a sample take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from difftune_core.config.adapter import Adapter
from difftune_core.config.card import BaseModelCard
from difftune_core.config.run import PrecisionName

FLOAT = 4
"""Bytes of a float32."""
HALF = 2
"""Bytes of a float16 or bfloat16."""


@dataclass(frozen=True)
class Activations:
    """What an image leaves in memory on its way through a network that is trained, in bytes."""

    saved: int
    """For the backward pass, where nothing is computed again."""
    inputs: int
    """The same where blocks are computed again: what goes into each of them, and what stands outside them."""
    block: int
    """Bytes of one block: what is computed again at a time."""
    working: int
    """What the backward pass of a block has beside it."""

    def first(self, *, checkpointing: bool) -> int:
        """Return what is there when the backward pass begins, in the last block."""
        return (self.inputs + self.block if checkpointing else self.saved) + self.working

    def last(self) -> int:
        """Return what is there when it comes to the first block: that block's own."""
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


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """A network that is trained, with what stands beside it."""

    parameters: int
    """Number of the network's parameters, adapters included."""
    trained: int
    """How many of these are trained."""
    beside: int = 0
    """Parameters of frozen networks that each step passes through or asks."""
    cast: int
    """Weights that autocast copies once a pass."""
    activations: Callable[[PrecisionName], Activations] | None
    """Function from a precision to an image's activations; None where they are not known."""
    drawing: int | None
    """Bytes that an image takes in one pass without gradients; None where that is not known."""
    blocks: int = 1
    """Number of the equal blocks that the network repeats."""
    latent: tuple[int, int, int]
    """Channels, height and width."""
    drawing_budget: int | None = None
    """Bytes by which images that are drawn at once are counted: what the code that draws takes a pass for."""
    autoencoder: AutoencoderAnatomy | None
    has_null_branch: bool = True
    """Whether guidance asks the network about as many images again, in the same pass."""

    @property
    def is_known(self) -> bool:
        """Whether the anatomy is known, and not the number of parameters alone."""
        return self.activations is not None

    @property
    def is_full(self) -> bool:
        """Whether all of the network is trained, so that a copy of what it was has to be loaded beside it."""
        return self.trained > self.parameters // 2


def autoencoder_of(anatomy: Mapping[str, Any]) -> AutoencoderAnatomy | None:
    """Read what a card's anatomy says of the autoencoder; None where it says nothing."""
    stated = anatomy.get("autoencoder")
    return None if stated is None else AutoencoderAnatomy.model_validate(stated)


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
