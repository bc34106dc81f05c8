"""Reading a batch of latents: the resident cache against one file a sample, as it was written for each."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness.blocks import Side, alternate
from benchmarks.harness.claims import Bar, Claim, Guard, faster
from benchmarks.references.files import FeatureFiles, endless
from difftune_core.data.latents import LatentSet
from difftune_core.runtime.rng import stream_indices

BAR = Bar(at_least=50.0)
_IMAGES, _BATCH = 1024, 32
_SHAPE = (4, 32, 32)  # of 256 pixels
_SEED = 0


def measured(folder: Path) -> list[Claim]:
    """Time both; the values of both must be equal."""
    torch.set_num_threads(1)
    stream = torch.Generator().manual_seed(_SEED)
    mean, std = (torch.rand(1, _IMAGES, *_SHAPE, generator=stream).half() for _ in range(2))
    labels = torch.arange(_IMAGES)
    files = FeatureFiles.write(folder / "files", torch.stack([mean[0], std[0]], dim=1), labels)
    latents, batches = LatentSet(mean, std, labels, ""), endless(files, _BATCH)
    position = 0

    def ours() -> tuple[Tensor, Tensor]:
        nonlocal position
        indices = stream_indices(_SEED, "target order", start=position, count=_BATCH, size=_IMAGES)
        position += _BATCH
        return latents.posteriors(indices, torch.zeros(_BATCH, dtype=torch.bool))

    compared = alternate(
        Side("one file a sample", lambda: next(batches), _BATCH),
        Side("resident", ours, _BATCH),
        block_s=1.0,
        clock=time.process_time,
    )
    features, chosen = next(batches)
    found = latents.posteriors(chosen, torch.zeros(_BATCH, dtype=torch.bool))
    equal = all(torch.equal(features[:, place], part) for place, part in enumerate(found))
    guard = Guard("the same images give the same numbers by both", equal)
    return [faster("latents", compared, bar=BAR, guard=guard, details={"clock": "cpu", "batch_size": _BATCH})]
