"""What the rows of the GPU's benchmark share: device, sizes, time, and how fast the device is by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.blocks import Comparison, Side, alternate
from benchmarks.harness.claims import Bar
from benchmarks.references.random import OF_STABLE_DIFFUSION
from difftune_core.networks.autoencoder_kl import AutoencoderConfig
from difftune_core.networks.dit import PRESETS, DiT, DiTConfig

_PROBES = 10


class SkippedError(Exception):
    """The row means nothing here."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of what is run."""

    name: str
    dit: DiTConfig
    saved: DiTConfig
    """The DiT whose checkpoints are timed."""
    autoencoder: AutoencoderConfig
    unet: dict[str, Any]
    """What differs from the defaults of diffusers' UNet, which are Stable Diffusion's."""
    text: dict[str, int]
    batch: int
    large: int
    controlled: tuple[int, int]
    """Both batches of a ControlNet."""
    product: int
    """Side of the matrices whose product tells how fast the device is."""
    drawn: int
    """Images that are drawn at once."""
    steps: int
    """Denoising steps of a drawing."""
    images: int
    """Latents that are trained on."""


FULL = Sizes(
    name="full",
    dit=PRESETS["DiT-XL/2"],
    saved=PRESETS["DiT-B/2"],
    autoencoder=OF_STABLE_DIFFUSION,
    unet={"sample_size": 64, "cross_attention_dim": 768},
    text={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    batch=32,
    large=128,
    controlled=(4, 16),
    product=8192,
    drawn=64,
    steps=25,
    images=10_000,
)
_TOY = DiTConfig(input_size=8, hidden_size=32, depth=2, num_heads=2, num_classes=10)
SMALL = Sizes(
    name="small",
    dit=_TOY,
    saved=_TOY,
    autoencoder=AutoencoderConfig(block_out_channels=(4, 4, 4, 8), norm_num_groups=4),
    unet={
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    },
    text={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    batch=4,
    large=4,
    controlled=(2, 2),
    product=64,
    drawn=2,
    steps=3,
    images=16,
)


@dataclass
class Bench:
    """One run of the benchmark."""

    device: torch.device
    sizes: Sizes
    folder: Path
    """Folder for what is compiled and written."""
    ends: float
    """When the time is over, by the monotonic clock in seconds."""
    known: dict[str, Any] = field(default_factory=dict)
    """What one row has found and others go on with."""

    @property
    def on_gpu(self) -> bool:
        """Whether the figures mean anything."""
        return self.device.type == "cuda"

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.ends - time.monotonic()

    def bar(self, **ends: float) -> Bar | None:
        """Give a bar, which is one for GPUs alone."""
        return Bar(**ends) if self.on_gpu and self.sizes.name == "full" else None

    def settle(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def side(self, name: str, work: Callable[[], object], units: float = 1.0) -> Side:
        """Make a side whose blocks end when the device has done them."""
        return Side(name, work, units, self.settle)

    def alternate(self, first: Side, second: Side, *, within_s: float = 30.0, warm_ups: int = 3) -> Comparison:
        """Time two sides in turn, in blocks of two seconds; on a CPU one call each, to see that it can be done."""
        if not self.on_gpu:
            return alternate(first, second, blocks=1, block_s=0.0)
        within = min(within_s, max(1.0, self.left_s))
        return alternate(first, second, blocks=5, block_s=2.0, within_s=within, warm_ups=warm_ups)

    def product_s(self) -> float:
        """Probe how long a product of two square matrices of bfloat16 takes; of random ones, since zeros are faster."""
        side, dtype = self.sizes.product, torch.bfloat16
        one, other = (torch.randn(side, side, device=self.device, dtype=dtype) for _ in range(2))
        work = self.side("product", lambda: one @ other)
        work.timed(3)
        return work.timed(_PROBES)

    def product_flops(self) -> float:
        """Probe the device's operations a second, now."""
        return 2 * self.sizes.product**3 / self.product_s()

    def copied_bytes(self) -> float:
        """Probe how many bytes the device reads and writes in a second."""
        count = (1 << 30) if self.on_gpu else (1 << 20)
        source = torch.empty(count, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        work = self.side("copy", lambda: target.copy_(source))
        work.timed(3)
        return 2 * count / work.timed(_PROBES)

    def halved(self) -> Bench:
        """Return the same with half as many images at once."""
        sizes = self.sizes
        half = replace(
            sizes,
            batch=max(1, sizes.batch // 2),
            large=max(1, sizes.large // 2),
            controlled=(max(1, sizes.controlled[0] // 2), max(1, sizes.controlled[1] // 2)),
            drawn=max(1, sizes.drawn // 2),
        )
        return Bench(self.device, half, self.folder, self.ends, self.known)


def operations(config: DiTConfig) -> tuple[int, int]:
    """Count floating-point operations of an image's forward pass, and of forward and backward, by torch's counter."""
    with torch.device("meta"):
        model, side = DiT(config), config.input_size
        x, t, y = torch.empty(1, config.in_channels, side, side), torch.empty(1), torch.empty(1, dtype=torch.long)
    return counted(lambda: model(x, t, y))


def counted(forward: Callable[[], torch.Tensor]) -> tuple[int, int]:
    """Count operations of `forward`, and of it with its backward pass."""
    with FlopCounterMode(display=False) as there:
        out = forward()
    with FlopCounterMode(display=False) as back:
        torch.autograd.backward(out.sum())
    return there.get_total_flops(), there.get_total_flops() + back.get_total_flops()
