"""What every feature extractor is: images in, features out, known by its id and the digest of its weights.

Shapes: n images, h w pixels, s pixels a side as the network sees them, d features, b images of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor

from difftune_core.config.card import FeatureExtractorCard
from difftune_core.data.images import load_whole
from difftune_core.data.pixels import ImageRows, parts_of
from difftune_core.files import sha256_file, whole_folder_digest
from difftune_core.hooks import TaskError
from difftune_core.interruption import interruption_point

WEIGHTS = "model.safetensors"


@runtime_checkable  # the tests check arguments at run time
class FeatureExtractor(Protocol):
    """Makes features of images."""

    @property
    def id(self) -> str:
        """Public id."""
        ...

    @property
    def kind(self) -> str:
        """Which network the extractor is; gives its distances their names."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of the extractor's weights."""
        ...

    @property
    def contents(self) -> str:
        """Digest of everything that features depend on: weights, anatomy, how images are prepared."""
        ...

    @property
    def dim(self) -> int:
        """Number of features."""
        ...

    @property
    def input_size(self) -> int:
        """Pixels a side that the network sees."""
        ...

    @property
    def resizing(self) -> str:
        """How images are brought to the network's size, in words."""
        ...

    @property
    def comparable(self) -> bool:
        """Whether distances over the features may be set beside published ones."""
        ...

    def read(self, data: bytes) -> Shaped[np.ndarray, "s s 3"]:
        """An encoded image, prepared for `features`.

        Raises:
            RefusedError: as `data.images.check_image`.
        """
        ...

    def features(self, prepared: Shaped[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n d"]:
        """Features of prepared images."""
        ...

    def __call__(self, images: ImageRows) -> Float32[np.ndarray, "n d"]:
        """Features of RGB images of any one size."""
        ...

    def release(self) -> None:
        """Let go of the network; it is loaded again when features are next asked for."""
        ...


class BatchedExtractor(ABC):
    """The common part: weights known by their digest, images taken batch by batch."""

    kind: ClassVar[str]
    dim: int
    input_size: int
    resizing: str
    _batch: ClassVar[int] = 32

    def __init__(self, folder: Path, card: FeatureExtractorCard, device: torch.device | str) -> None:
        """Check that the weights are the card's.

        Raises:
            TaskError: `model_mismatch`.
            FileNotFoundError: there are no weights.
        """
        self.id = card.id
        self.comparable = card.comparable
        self.digest = sha256_file(folder / WEIGHTS)
        if card.digest not in {"", self.digest}:
            raise TaskError("model_mismatch", f"the weights of {card.id!r} do not fit the digest in its card")
        self.contents = whole_folder_digest(folder)  # the card too: it says how images are brought to the network
        self._folder, self._device = folder, torch.device(device)

    @cached_property
    def _net(self) -> Any:
        return self._load(self._folder).to(self._device)

    def release(self) -> None:
        """Let go of the network; it is loaded again when features are next asked for."""
        vars(self).pop("_net", None)

    @abstractmethod
    def _load(self, folder: Path) -> Any:
        """The frozen network, on the CPU."""

    @abstractmethod
    def prepare(self, images: UInt8[np.ndarray, "b h w 3"]) -> Shaped[np.ndarray, "b s s 3"]:
        """RGB images of any one size as `features` takes them."""

    @abstractmethod
    def _forward(self, prepared: Tensor) -> Tensor:
        """Features [b, d] of prepared images [b, s, s, 3]."""

    def read(self, data: bytes) -> Shaped[np.ndarray, "s s 3"]:
        """An encoded image, whole, prepared for `features`.

        Raises:
            RefusedError: as `data.images.check_image`.
        """
        prepared: Shaped[np.ndarray, "s s 3"] = self.prepare(load_whole(data)[None])[0]
        return prepared

    def features(self, prepared: Shaped[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n d"]:
        """Features of prepared images, in float32 also where the device could be faster with less."""
        return self._joined([self._of(prepared[i : i + self._batch]) for i in range(0, len(prepared), self._batch)])

    def __call__(self, images: ImageRows) -> Float32[np.ndarray, "n d"]:
        """Features of RGB images of any one size; what is decoded and prepared is never more than a batch."""
        return self._joined([self._of(self.prepare(part)) for part in parts_of(images, self._batch)])

    @torch.inference_mode()
    def _of(self, prepared: Shaped[np.ndarray, "b s s 3"]) -> Float32[np.ndarray, "b d"]:
        interruption_point()
        # TF32 keeps 10 bits of each product: distances over such features are not the published ones.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            found: Float32[np.ndarray, "b d"] = self._forward(torch.from_numpy(prepared).to(self._device)).cpu().numpy()
        return found

    def _joined(self, batches: list[Float32[np.ndarray, "_ d"]]) -> Float32[np.ndarray, "n d"]:
        return np.concatenate(batches) if batches else np.empty((0, self.dim), np.float32)
