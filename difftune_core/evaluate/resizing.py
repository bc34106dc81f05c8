"""How images are brought to Inception's 299 x 299, whatever their shape, and to its range.

Published FIDs differ by several points with this alone (Parmar et al. 2022), so each way is that of one package.
Shapes: b images, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from difftune_core.config.card import InceptionResizing

_SIZE = 299
_MAX = 255

Resize = Callable[[UInt8[np.ndarray, "b h w 3"]], Float32[np.ndarray, "b 299 299 3"]]


@dataclass(frozen=True)
class Resizing:
    """A way, and its description in a recipe."""

    description: str
    resize: Resize


def clean_fid(images: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b 299 299 3"]:
    """PIL's antialiased bicubic filter for each channel in float, not rounded, cut to 0 ... 255; (x - 128) / 128."""
    resized = np.stack([_bicubic(image) for image in images])
    return (resized.clip(0, _MAX) - 128) / 128


def pytorch_fid(images: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b 299 299 3"]:
    """Torch's bilinear filter between pixel centres, not antialiased; 2 x / 255 - 1."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / _MAX
    return _last(2 * F.interpolate(pixels, size=(_SIZE, _SIZE), mode="bilinear", align_corners=False) - 1)


def torch_fidelity(images: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b 299 299 3"]:
    """TensorFlow 1's bilinear filter between pixel corners, not antialiased; (x - 128) / 128."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    low, high, share = _corners(pixels.shape[2])
    rows = torch.lerp(pixels[:, :, low], pixels[:, :, high], share[:, None])
    low, high, share = _corners(pixels.shape[3])
    return _last((torch.lerp(rows[..., low], rows[..., high], share) - 128) / 128)


RESIZINGS: dict[InceptionResizing, Resizing] = {
    "clean-fid": Resizing("as clean-fid: whole image, PIL bicubic in float to 299 x 299", clean_fid),
    "pytorch-fid": Resizing("as pytorch-fid: whole image, bilinear without antialiasing to 299 x 299", pytorch_fid),
    "torch-fidelity": Resizing("as torch-fidelity: whole image, TensorFlow 1's bilinear to 299 x 299", torch_fidelity),
}


def _bicubic(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "299 299 3"]:
    channels = [Image.fromarray(image[:, :, i].astype(np.float32)) for i in range(3)]
    return np.stack([np.asarray(c.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)) for c in channels], axis=2)


def _corners(size: int) -> tuple[Int64[Tensor, " 299"], Int64[Tensor, " 299"], Float32[Tensor, " 299"]]:
    """The pixels before and after the corner of each output pixel, and the share of the one after."""
    place = torch.arange(_SIZE, dtype=torch.float32) * (size / _SIZE)
    low = place.floor().long().clamp(max=size - 1)
    return low, (low + 1).clamp(max=size - 1), place - low


def _last(pixels: Float32[Tensor, "b 3 299 299"]) -> Float32[np.ndarray, "b 299 299 3"]:
    """Channels last."""
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def resize(images: UInt8[np.ndarray, "n h w 3"], size: int) -> UInt8[np.ndarray, "n size size 3"]:
    """Resize by PIL's antialiased bicubic filter, rounded to 8 bits (Parmar et al. 2022).

    Unchanged if the size is right.
    """
    if images.shape[1:3] == (size, size):
        return np.array(images)
    resized = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in resized])
