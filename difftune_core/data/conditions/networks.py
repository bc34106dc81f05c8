"""Depth, normal and segmentation by transformers' models, read from a folder: never fetched, safetensors only."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from difftune_core.hooks import TaskError
from difftune_core.runtime.foreign import reading

PALETTE_FILE = "palette.json"
"""Optional file beside a segmentation model: [[red, green, blue], ...], one colour a class."""
_METRIC_FAMILIES = frozenset({"glpn", "zoedepth", "depth_pro", "prompt_depth_anything"})
_NEEDED = ("config.json", "preprocessor_config.json")
_LEAST_DEPTH = 1e-6


class Depth:
    """Inverse depth, brought to 0 (farthest) ... 255 (nearest) in each picture, as MiDaS' maps for ControlNet are.

    Families that estimate metric depth are inverted; DPT and Depth Anything give inverse depth themselves.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """Load the network.

        Raises:
            TaskError: `annotator_not_found`, `model_mismatch`.
        """
        from transformers import AutoModelForDepthEstimation

        self._network = _Network(folder, AutoModelForDepthEstimation, device)

    def release(self) -> None:
        """Let go of the network until it is next asked for."""
        self._network.release()

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The control image."""
        levels = np.rint(self.inverse_depth(image) * 255).astype(np.uint8)
        return np.repeat(levels[:, :, None], 3, axis=2)

    def inverse_depth(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
        """Draw the inverse depth, in [0, 1], at the picture's size by bicubic interpolation."""
        found = self._network.run(image).predicted_depth[:, None]
        config = self._network.config
        metric = getattr(config, "depth_estimation_type", "relative") == "metric"
        if metric or config.model_type in _METRIC_FAMILIES:
            found = 1 / found.clamp(min=_LEAST_DEPTH)
        sized = torch.nn.functional.interpolate(found, image.shape[:2], mode="bicubic", align_corners=False)
        return to_unit_range(sized[0, 0].cpu().numpy())


class Normal:
    """Normals from the slopes of the inverse depth: red to the right, green up, blue towards the viewer."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """Load the depth estimator.

        Raises:
            TaskError: `annotator_not_found`, `model_mismatch`.
        """
        self._depth = Depth(folder, device)

    def release(self) -> None:
        """Let go of the network until it is next asked for."""
        self._depth.release()

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The control image."""
        return normals_of(self._depth.inverse_depth(image))


class Segmentation:
    """The colour of each pixel's class: by `palette.json` beside the model, or else by the PASCAL VOC rule."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """Load the network and its palette.

        Raises:
            TaskError: `annotator_not_found`, `model_mismatch`.
        """
        from transformers import AutoModelForSemanticSegmentation

        self._network = _Network(folder, AutoModelForSemanticSegmentation, device)
        self.palette = _palette(folder, self._network.config.num_labels)

    def release(self) -> None:
        """Let go of the network until it is next asked for."""
        self._network.release()

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The control image."""
        coloured: UInt8[np.ndarray, "h w 3"] = self.palette[self.classes(image)]
        return coloured

    def classes(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
        """Return each pixel's likeliest class, the scores brought to the picture's size by bilinear interpolation."""
        scores = self._network.run(image).logits
        sized = torch.nn.functional.interpolate(scores, image.shape[:2], mode="bilinear", align_corners=False)
        found: UInt8[np.ndarray, "h w"] = sized[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
        return found


def to_unit_range(values: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Shift and scale values so that the least is 0 and the greatest 1; a constant becomes 0."""
    low, high = float(values.min()), float(values.max())
    return ((values - np.float32(low)) / np.float32(max(high - low, 1e-9))).astype(np.float32)


def normals_of(inverse_depth: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """(n + 1) / 2 * 255 of n = (-dD/dx, dD/dy, 1) normalised, y downwards, D the inverse depth in [0, 1].

    Lengths are in units of the picture's longer side: where D rises by its whole range over that side, a surface is
    taken to be turned by 45 degrees. As in ControlNet the scale is a convention: D is known up to one itself.
    """
    side = np.float32(max(inverse_depth.shape))
    down, right = np.gradient(inverse_depth.astype(np.float32))
    normals = np.stack([-right * side, down * side, np.ones_like(right)], axis=2)
    normals /= np.sqrt((normals**2).sum(axis=2, keepdims=True))
    return np.rint((normals + 1) * 127.5).astype(np.uint8)


def voc_palette(count: int) -> UInt8[np.ndarray, "{count} 3"]:
    """The colours of the PASCAL VOC devkit: the bits of a class's number, spread over the channels' high bits."""
    numbers = np.arange(count)
    colours = np.zeros((count, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours.astype(np.uint8)


class _Network:
    """A transformers model with its image processor."""

    def __init__(self, folder: Path, family: Any, device: torch.device | str) -> None:
        from transformers import AutoImageProcessor

        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if missing or not any(folder.glob("*.safetensors")):
            lacking = ", ".join(missing) or "weights as safetensors"
            raise TaskError("annotator_not_found", f"the annotator {folder.name!r} lacks {lacking}", "annotator")
        processors: Any = AutoImageProcessor  # untyped in the library
        plain = {"local_files_only": True, "trust_remote_code": False}
        with reading("the annotator's preprocessor_config.json", "annotator"):
            # On PIL and numpy: the other backend needs torchvision.
            self._processor = processors.from_pretrained(folder, backend="pil", **plain)
        self._folder, self._family, self._device = folder, family, device
        self.config = self._model.config

    @cached_property
    def _model(self) -> Any:
        with reading("the annotator is no network for this: config.json", "annotator"):
            model = self._family.from_pretrained(
                self._folder, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
        return model.float().to(self._device).eval()  # weights may lie in half precision

    def release(self) -> None:
        """Let go of the model; it is loaded again when it is next asked."""
        vars(self).pop("_model", None)

    @torch.inference_mode()
    def run(self, image: UInt8[np.ndarray, "h w 3"]) -> Any:
        prepared: Tensor = self._processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
        if not prepared.isfinite().all():
            message = "the annotator's preprocessor_config.json makes NaN or infinity of a picture"
            raise TaskError("model_mismatch", message, "annotator")
        return self._model(pixel_values=prepared.to(self._model.device))


def _palette(folder: Path, count: int) -> UInt8[np.ndarray, "count 3"]:
    path = folder / PALETTE_FILE
    if not path.is_file():
        return voc_palette(count)
    with reading(PALETTE_FILE, "annotator"):
        colours = np.array(json.loads(path.read_bytes()))
    if colours.dtype.kind not in "iu" or colours.shape != (count, 3) or colours.min() < 0 or colours.max() > 255:  # noqa: PLR2004  a byte's range
        raise TaskError("model_mismatch", f"{PALETTE_FILE} must hold {count} colours [red, green, blue]", "annotator")
    return colours.astype(np.uint8)
