"""Anatomy of a Stable Diffusion's UNet and of the ControlNet beside it, part by part. Free of torch.

Parts are listed in the order in which a pass comes to them. Shapes: a level has c channels and p places (height times
width of its maps).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

EMBEDDED = (16, 32, 96, 256)
"""Channels of what embeds the control, from the pixels down; each but the first after a halving (Zhang et al. 2023)."""
PIXELS_PER_LATENT = 8
_DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
Heads = int | tuple[int, ...]
WayName = Literal["full", "lora", "frozen"]
"""How a network's layers are trained: all, by what LoRA puts beside them, or not at all."""


@dataclass(frozen=True)
class Resnet:
    """Two convolutions of 3 x 3 with a norm and SiLU before each, and the timestep between them."""

    name: str
    inputs: int
    channels: int
    places: int


@dataclass(frozen=True)
class Attention:
    """A norm, a projection, transformer blocks that attend to themselves and to the prompt, and a projection."""

    name: str
    channels: int
    places: int
    heads: int


@dataclass(frozen=True)
class Resampling:
    """A convolution of 3 x 3 that halves maps, or follows their doubling; `places` are those of its input."""

    channels: int
    places: int
    outputs: int
    """Places of the layer's output."""


@dataclass(frozen=True)
class Embedding:
    """What brings the control from its pixels to the first level."""

    channels: int
    pixels: int


@dataclass(frozen=True)
class Ends:
    """The last norm, SiLU and convolution."""

    channels: int
    places: int


Part = Resnet | Attention | Resampling | Embedding | Ends


class UNetAnatomy(BaseModel):
    """Anatomy of the UNets of Stable Diffusion 1 and 2, as a card states it; lengths count from the first level."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sample_size: int = Field(ge=1)
    in_channels: int = Field(ge=1)
    block_out_channels: tuple[int, ...] = Field(min_length=1)
    layers_per_block: int = Field(ge=1)
    down_attention: tuple[bool, ...]
    """Levels whose resnets have attention after them, on the way down."""
    up_attention: tuple[bool, ...]
    """Levels whose resnets have attention after them, on the way up, the smallest maps first."""
    heads: Heads
    """Heads of each level, or of all."""
    cross_attention_dim: int = Field(ge=1)
    transformer_layers: int = Field(ge=1)
    use_linear_projection: bool

    @property
    def levels(self) -> int:
        """Number of sizes of maps."""
        return len(self.block_out_channels)

    def places(self, level: int) -> int:
        """Places of a level's maps; what is halved is rounded up."""
        side = self.sample_size
        for _ in range(level):
            side = (side + 1) // 2
        return side * side

    def heads_of(self, level: int) -> int:
        """Heads of a level's attention."""
        return self.heads if isinstance(self.heads, int) else self.heads[level]

    def down(self) -> Iterator[tuple[int, Part]]:
        """Parts on the way down with their level."""
        before = self.block_out_channels[0]
        for level, channels in enumerate(self.block_out_channels):
            places = self.places(level)
            for number in range(self.layers_per_block):
                yield level, Resnet(f"down_blocks.{level}.resnets.{number}", before, channels, places)
                if self.down_attention[level]:
                    name = f"down_blocks.{level}.attentions.{number}"
                    yield level, Attention(name, channels, places, self.heads_of(level))
                before = channels
            if level < self.levels - 1:
                yield level, Resampling(channels, places, self.places(level + 1))

    def middle(self) -> Iterator[Part]:
        """Parts of the smallest maps."""
        channels, places = self.block_out_channels[-1], self.places(self.levels - 1)
        yield Resnet("mid_block.resnets.0", channels, channels, places)
        yield Attention("mid_block.attentions.0", channels, places, self.heads_of(self.levels - 1))
        yield Resnet("mid_block.resnets.1", channels, channels, places)

    def skips(self) -> list[tuple[int, int]]:
        """Channels and places of what the way up takes from the way down, as it comes about."""
        found = [(self.block_out_channels[0], self.places(0))]
        for level, channels in enumerate(self.block_out_channels):
            found += [(channels, self.places(level))] * self.layers_per_block
            if level < self.levels - 1:
                found.append((channels, self.places(level + 1)))
        return found

    def up(self) -> Iterator[tuple[int, Part]]:
        """Parts on the way up with their level, and the last convolution."""
        channels, left = self.block_out_channels[-1], self.skips()
        for number, level in enumerate(reversed(range(self.levels))):
            width, places = self.block_out_channels[level], self.places(level)
            for layer in range(self.layers_per_block + 1):
                name = f"up_blocks.{number}.resnets.{layer}"
                yield level, Resnet(name, channels + left.pop()[0], width, places)
                if self.up_attention[number]:
                    name = f"up_blocks.{number}.attentions.{layer}"
                    yield level, Attention(name, width, places, self.heads_of(level))
                channels = width
            if level > 0:
                yield level, Resampling(width, self.places(level - 1), self.places(level - 1))
        yield 0, Ends(self.block_out_channels[0], self.places(0))

    def embedding(self) -> Embedding:
        """Return what embeds the control."""
        return Embedding(self.block_out_channels[0], (self.sample_size * PIXELS_PER_LATENT) ** 2)


def unet_anatomy(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read what a card states of a UNet from diffusers' config; None where it has other parts than are counted here."""
    plain: dict[str, Any] = {"resnet_time_scale_shift": "default", "dual_cross_attention": False}
    plain |= {"only_cross_attention": False, "encoder_hid_dim": None, "class_embed_type": None}
    if any(config.get(name, value) != value for name, value in plain.items()):
        return None
    down, up = (config.get(f"{way}_block_types") or () for way in ("down", "up"))
    if not (set(down) <= set(_DOWN) and set(up) <= set(_UP) and down and len(down) == len(up)):
        return None
    stated = {
        "sample_size": config.get("sample_size"),
        "in_channels": config.get("in_channels", 4),
        "block_out_channels": _tuple(config.get("block_out_channels", (320, 640, 1280, 1280))),
        "layers_per_block": config.get("layers_per_block", 2),
        "down_attention": [_DOWN[kind] for kind in down],
        "up_attention": [_UP[kind] for kind in up],
        "heads": _tuple(config.get("num_attention_heads") or config.get("attention_head_dim", 8)),
        "cross_attention_dim": config.get("cross_attention_dim", 1280),
        "transformer_layers": config.get("transformer_layers_per_block", 1),
        "use_linear_projection": config.get("use_linear_projection", False),
    }
    try:
        return UNetAnatomy.model_validate(stated).model_dump(mode="json")
    except ValidationError:  # a list where this takes one value for all levels
        return None


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
