"""The Inception-v3 of FID (Szegedy et al. 2016, as ported from TensorFlow's graph of 2015-12-05) and its features.

It differs from other Inception-v3 networks in its pooling branches: averages leave the padding out, and the last block
takes a maximum. Parameters carry the published names (`Mixed_5b.branch1x1.conv.weight`).
Shapes: b images of a batch, c channels, h w pixels, s = 299 pixels a side, d = 2048 features.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from difftune_core.config.card import FeatureExtractorCard
from difftune_core.evaluate.extractor import WEIGHTS, BatchedExtractor
from difftune_core.evaluate.resizing import RESIZINGS
from difftune_core.networks.state import check_state

SIZE = 299
FEATURES = 2048
_EPS = 1e-3  # of batch normalisation, TensorFlow's default

Kernel = int | tuple[int, int]


class Unit(NamedTuple):
    """A convolution with its normalisation."""

    name: str
    channels: int
    kernel: Kernel


Step = Unit | tuple[Unit, Unit] | str
"""A convolution, two of the same input whose outputs are joined, or the name of a pooling."""
Paths = list[list[Step]]


def _double(prefix: str, first: int, second: int) -> list[Step]:
    """A 1 x 1 convolution and two of 3 x 3."""
    return [Unit(f"{prefix}_1", first, 1), Unit(f"{prefix}_2", second, 3), Unit(f"{prefix}_3", second, 3)]


def _grid(pool_features: int) -> Paths:
    """Block A, at 35 x 35."""
    return [
        [Unit("branch1x1", 64, 1)],
        [Unit("branch5x5_1", 48, 1), Unit("branch5x5_2", 64, 5)],
        _double("branch3x3dbl", 64, 96),
        ["average", Unit("branch_pool", pool_features, 1)],
    ]


def _factorised(width: int) -> Paths:
    """Block C, at 17 x 17: 7 x 7 as rows and columns."""
    row, column = (1, 7), (7, 1)
    deep = [Unit("branch7x7dbl_1", width, 1), Unit("branch7x7dbl_2", width, column), Unit("branch7x7dbl_3", width, row)]
    return [
        [Unit("branch1x1", 192, 1)],
        [Unit("branch7x7_1", width, 1), Unit("branch7x7_2", width, row), Unit("branch7x7_3", 192, column)],
        [*deep, Unit("branch7x7dbl_4", width, column), Unit("branch7x7dbl_5", 192, row)],
        ["average", Unit("branch_pool", 192, 1)],
    ]


def _expanded(pooling: str) -> Paths:
    """Block E, at 8 x 8: 3 x 3 as a row beside a column."""

    def fork(prefix: str) -> Step:
        return Unit(f"{prefix}a", 384, (1, 3)), Unit(f"{prefix}b", 384, (3, 1))

    return [
        [Unit("branch1x1", 320, 1)],
        [Unit("branch3x3_1", 384, 1), fork("branch3x3_2")],
        [Unit("branch3x3dbl_1", 448, 1), Unit("branch3x3dbl_2", 384, 3), fork("branch3x3dbl_3")],
        [pooling, Unit("branch_pool", 192, 1)],
    ]


# B and D halve the grid: the last convolution of each path, and the maximum, have stride 2 and no padding.
_HALVING_B: Paths = [[Unit("branch3x3", 384, 3)], _double("branch3x3dbl", 64, 96), ["halve"]]
_HALVING_D: Paths = [
    [Unit("branch3x3_1", 192, 1), Unit("branch3x3_2", 320, 3)],
    [
        Unit("branch7x7x3_1", 192, 1),
        Unit("branch7x7x3_2", 192, (1, 7)),
        Unit("branch7x7x3_3", 192, (7, 1)),
        Unit("branch7x7x3_4", 192, 3),
    ],
    ["halve"],
]
BLOCKS = {
    "Mixed_5b": _grid(32),
    "Mixed_5c": _grid(64),
    "Mixed_5d": _grid(64),
    "Mixed_6a": _HALVING_B,
    "Mixed_6b": _factorised(128),
    "Mixed_6c": _factorised(160),
    "Mixed_6d": _factorised(160),
    "Mixed_6e": _factorised(192),
    "Mixed_7a": _HALVING_D,
    "Mixed_7b": _expanded("average"),
    "Mixed_7c": _expanded("maximum"),
}


class _Norm(nn.Module):
    """Batch normalisation by stored statistics, which training never touches here."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=_EPS)


class _Convolution(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inner: int, outer: int, kernel: Kernel, *, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (high // 2, wide // 2) if padded else 0
        self.conv = nn.Conv2d(inner, outer, (high, wide), stride=stride, padding=padding, bias=False)
        self.bn = _Norm(outer)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ _ _"]:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Paths side by side over one input, joined along channels."""

    def __init__(self, channels: int, paths: Paths) -> None:
        super().__init__()
        self._paths = paths
        self.channels = 0
        halves = ["halve"] in paths
        for path in paths:
            width = channels
            for step in path:
                if isinstance(step, str):
                    continue
                units, last = _units(step), halves and step is path[-1]
                for unit in units:
                    made = _Convolution(width, unit.channels, unit.kernel, stride=2 if last else 1, padded=not last)
                    self.add_module(unit.name, made)
                width = sum(unit.channels for unit in units)
            self.channels += width

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ _ _"]:
        return torch.cat([self._along(path, x) for path in self._paths], dim=1)

    def _along(self, path: list[Step], x: Tensor) -> Tensor:
        for step in path:
            if isinstance(step, str):
                x = _pooled(x, step)
            else:
                x = torch.cat([self.get_submodule(unit.name)(x) for unit in _units(step)], dim=1)
        return x


class InceptionV3(nn.Module):
    """The network up to its pooled features; its classifier is not part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2, padded=False)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, padded=False)
        channels = 192
        for name, paths in BLOCKS.items():
            block = _Block(channels, paths)
            self.add_module(name, block)
            channels = block.channels

    def forward(self, x: Float32[Tensor, "b 3 h w"]) -> Float32[Tensor, "b 2048"]:
        """Features of RGB images of 299 pixels a side (75 at least), about -1 to 1."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_pooled(x, "halve")))
        x = _pooled(x, "halve")
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


def _units(step: Unit | tuple[Unit, Unit]) -> list[Unit]:
    return [step] if isinstance(step, Unit) else list(step)


def _pooled(x: Float[Tensor, "b c h w"], pooling: str) -> Float[Tensor, "b c _ _"]:
    if pooling == "average":
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    if pooling == "maximum":
        return F.max_pool2d(x, 3, stride=1, padding=1)
    return F.max_pool2d(x, 3, stride=2)


class InceptionFeatures(BatchedExtractor):
    """The 2048 pooled features of FID."""

    kind = "inception"
    dim = FEATURES
    input_size = SIZE

    def __init__(self, folder: Path, card: FeatureExtractorCard, device: torch.device | str) -> None:
        """Load the network in `folder`.

        Raises:
            TaskError: `model_mismatch` with the names at fault, `not_finite`.
        """
        super().__init__(folder, card, device)
        self.resizing = RESIZINGS[card.resizing].description
        self._resize = RESIZINGS[card.resizing].resize
        _ = self._net

    def _load(self, folder: Path) -> InceptionV3:
        return load_inception(folder / WEIGHTS)

    def prepare(self, images: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b 299 299 3"]:
        """RGB images of any size as the network sees them, about -1 to 1."""
        return self._resize(images)

    def _forward(self, prepared: Tensor) -> Tensor:
        features: Tensor = self._net(prepared.permute(0, 3, 1, 2))
        return features


def load_inception(path: Path) -> InceptionV3:
    """The network of a safetensors file in float32, in evaluation mode, without gradients.

    Raises:
        TaskError: `model_mismatch` with the missing, unexpected or misshapen names; `not_finite` for NaN or infinity.
    """
    with torch.device("meta"):
        net = InceptionV3()
    state = load_file(path)
    check_state(state, net)
    net.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return net.eval().requires_grad_(requires_grad=False)
