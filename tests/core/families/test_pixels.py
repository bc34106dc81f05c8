"""Images that are their own latents: the same from memory and one batch after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from difftune_core.data.latents import LatentSet
from difftune_core.data.pixels import Made
from difftune_core.families.pixels import PixelLatents, pixel_latents, pixels_of

IMAGES = np.random.default_rng(0).integers(0, 255, (100, 4, 4, 3), dtype=np.uint8)
LABELS = torch.arange(100) % 3


def test_a_large_set_is_decoded_batch_by_batch_into_what_a_small_one_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = pixel_latents(IMAGES, LABELS)
    monkeypatch.setenv("DIFFTUNE_RESIDENT_BYTES", "0")
    streamed = pixel_latents(IMAGES, LABELS)
    assert isinstance(resident, LatentSet)
    assert isinstance(streamed, PixelLatents)
    chosen, flip = torch.tensor([99, 3, 3]), torch.tensor([True, False, True])
    drawn = [found.draw(chosen, flip, torch.randn(3, 3, 4, 4)) for found in (resident, streamed)]
    assert torch.equal(*drawn)
    assert torch.equal(streamed.means(10, 20), resident.means(10, 20))
    assert (streamed.shape, len(streamed), streamed.digest) == (resident.shape, len(resident), resident.digest)
    assert np.array_equal(pixels_of(drawn[1]), IMAGES[chosen])


def test_a_large_set_never_stands_in_memory_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFTUNE_RESIDENT_BYTES", "0")
    asked: list[int] = []

    def make(start: int, stop: int) -> np.ndarray:
        asked.append(stop - start)
        return np.zeros((stop - start, 2, 2, 3), np.uint8)

    rows = Made((1000, 2, 2, 3), make)
    PixelLatents(rows, torch.zeros(1000, dtype=torch.long), "d").means(64, 128)
    assert asked == [64]
