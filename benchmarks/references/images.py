"""Pictures as public trainers read them: decoded anew for every batch, by Pillow, from a folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from difftune_core.data.crops import CENTRE


class ImageFolder(Dataset[tuple[Tensor, Tensor]]):
    """Images in [-1, 1] with the number of their folder."""

    def __init__(self, folder: Path, size: int) -> None:
        """List the files."""
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self._files = [
            (path, number) for number, name in enumerate(names) for path in sorted((folder / name).iterdir())
        ]
        self._size = size

    def __len__(self) -> int:
        """Number of images."""
        return len(self._files)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        """Decode an image."""
        path, label = self._files[place]
        with Image.open(path) as opened:
            pixels = np.array(CENTRE(opened.convert("RGB"), self._size, ""))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1, torch.tensor(label)
