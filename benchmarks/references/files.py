"""Features as public trainers keep them: a file of numbers for each image, and one for its label, read one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class FeatureFiles(Dataset[tuple[Tensor, Tensor]]):
    """A folder of `NUMBER.npy` and `NUMBER-label.npy`."""

    def __init__(self, folder: Path, count: int) -> None:
        """Read nothing yet."""
        self._folder, self._count = folder, count

    @classmethod
    def write(cls, folder: Path, features: Tensor, labels: Tensor) -> FeatureFiles:
        """Write a file for each row."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, (row, label) in enumerate(zip(features.numpy(), labels.numpy(), strict=True)):
            np.save(folder / f"{number}.npy", row)
            np.save(folder / f"{number}-label.npy", label)
        return cls(folder, len(labels))

    def __len__(self) -> int:
        """Number of images."""
        return self._count

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Features and label of an image."""
        found = (np.load(self._folder / f"{number}{kind}.npy") for kind in ("", "-label"))
        features, label = (torch.from_numpy(array) for array in found)
        return features, label


def endless(
    dataset: Dataset[tuple[Tensor, Tensor]], batch_size: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without end."""
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True, num_workers=workers)
    while True:
        yield from loader
