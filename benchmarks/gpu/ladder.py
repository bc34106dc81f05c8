"""Each lever by itself: switched on in order, beside the rung below."""

from __future__ import annotations

import itertools

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.training import images_of, ours
from benchmarks.harness.claims import Claim, faster
from benchmarks.references.files import FeatureFiles, endless
from benchmarks.references.ours import random_latents
from benchmarks.references.random import random_dit
from benchmarks.references.training import Batches, Levers, PlainLoop

_FILES = 2048
_LEVERS = ("tf32", "cached", "half", "compiled", "fused", "resident", "unsynchronised")


def ladder(bench: Bench) -> list[Claim]:
    """Time two rungs at a time: each has weights, average and moments of its own."""
    sizes, device = bench.sizes, bench.device
    model, source = random_dit(sizes.dit, device), images_of(bench)
    source.latents = random_latents(sizes.images, sizes.dit, device)
    source.features = _files(bench, min(_FILES, sizes.images))
    names = [name for name in _LEVERS if bench.on_gpu or name not in {"tf32", "compiled"}]

    def rung(levers: Levers) -> PlainLoop:
        return PlainLoop(model, levers, source, batch_size=sizes.batch)

    claims = []
    rungs = list(Levers.ladder(*names))
    for (below, plain), (name, lever) in itertools.pairwise(rungs):
        sides = (
            bench.side(f"up to {below}", rung(plain).step, sizes.batch),
            bench.side(f"and {name}", rung(lever).step, sizes.batch),
        )
        claims.append(faster(f"ladder: {name}", bench.alternate(*sides, within_s=8.0)))
    run = ours(bench, model, sizes.batch)
    top = bench.side("all levers", rung(rungs[-1][1]).step, sizes.batch)
    own = bench.alternate(top, bench.side("difftune's step", run.step, sizes.batch), within_s=8.0)
    return [*claims, faster("ladder: our own step", own)]


def _files(bench: Bench, count: int) -> Batches:
    """Write features of some images, a file each."""
    latents = random_latents(count, bench.sizes.dit, torch.device("cpu"))
    features = torch.stack([latents.mean[0], latents.std[0]], dim=1)
    return endless(FeatureFiles.write(bench.folder / "features", features, latents.labels), bench.sizes.batch)
