"""The bundled feature network, by which the tiny family's quality is measured where no Inception weights are at hand.

It learned to tell the letters, signs and shapes of the broad world apart. Fréchet distances over its features compare
runs with one another; they are not comparable with published FID.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FEATURES = 64


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.relu(x + self.body(x))
        return out


def _conv(inner: int, outer: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU())


class TinyFeatureNet(nn.Module):
    """Small residual network for 32 x 32 images (He et al. 2016), 64 features before its classifier.

    Args:
        classes: number of classes that it learned.
        channels: channels at 32, 16 and 8 pixels.
    """

    def __init__(self, classes: int, channels: tuple[int, int, int] = (16, 48, 96)) -> None:
        super().__init__()
        first, second, third = channels
        self.config = {"classes": classes, "channels": list(channels), "features": FEATURES}
        self.body = nn.Sequential(
            _conv(3, first, 1),
            _conv(first, second, 2),
            _Residual(second),
            _conv(second, third, 2),
            _Residual(third),
            _conv(third, third, 2),
            _conv(third, FEATURES, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, 64] of RGB images [n, 3, 32, 32] in [0, 1]."""
        features: torch.Tensor = self.body(images * 2.0 - 1.0)
        return features

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores [n, classes] of RGB images [n, 3, 32, 32] in [0, 1]."""
        scores: torch.Tensor = self.head(self(images))
        return scores


def load_feature_net(folder: Path) -> TinyFeatureNet:
    """The network in `folder` in fp32, in evaluation mode, without gradients.

    Raises:
        FileNotFoundError: config.json or model.safetensors is missing.
        ValueError: config.json is not that of a TinyFeatureNet.
    """
    config = json.loads((folder / CONFIG).read_text())
    try:
        first, second, third = config["channels"]
        net = TinyFeatureNet(config["classes"], (first, second, third))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: not the config of a TinyFeatureNet: {error}") from error
    net.load_state_dict(load_file(folder / WEIGHTS))
    return net.float().eval().requires_grad_(requires_grad=False)
