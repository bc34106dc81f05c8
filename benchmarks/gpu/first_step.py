"""T8: the first step of a trainer that finds its blocks compiled, beside one that has to compile them.

`python -m benchmarks.gpu.first_step CACHE SIZE` is one such trainer; it prints loss and seconds of its first step.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.bench import Bench, SkippedError
from benchmarks.harness.claims import Claim, Guard

_SIZES = ("full", "small")


def first_step(bench: Bench) -> list[Claim]:
    """Start two trainers, one after the other, on a cache that is empty at first."""
    if not bench.on_gpu:
        raise SkippedError("blocks are compiled on GPUs alone")
    cache = bench.folder / "compiled"
    shutil.rmtree(cache, ignore_errors=True)
    (loss, cold), (again, warm) = (_one(cache, bench.sizes.name) for _ in range(2))
    same = math.isclose(loss, again, rel_tol=1e-3)
    guard = Guard(
        "both steps have the same loss, and the first one has left what is compiled", same and any(cache.iterdir())
    )
    told = {"cold_s": cold, "warm_s": warm}
    means = "share of time: a first step with what is compiled already"
    return [Claim("T8", warm / cold, means, bar=bench.bar(at_most=0.5), guard=guard, details=told)]


def _one(cache: Path, size: str) -> tuple[float, float]:
    """Loss of the first step, and its seconds."""
    command = [sys.executable, "-m", "benchmarks.gpu.first_step", str(cache), size]
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    loss, seconds = map(float, done.stdout.split()[-2:])
    return loss, seconds


def main() -> None:
    """Time the first step: with it the blocks are compiled and tried out."""
    import torch

    from benchmarks.gpu.bench import FULL, SMALL
    from benchmarks.references.ours import OurRun, random_data
    from benchmarks.references.random import random_dit

    cache, name = Path(sys.argv[1]), sys.argv[2]
    sizes = dict(zip(_SIZES, (FULL, SMALL), strict=True))[name]
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, data = random_dit(sizes.dit, device), random_data(sizes.dit, device, sizes.images)
    begin = time.perf_counter()
    run = OurRun.of(model, data, batch_size=sizes.batch, cache=cache, compile="on")
    print(run.step().losses.mean().item(), time.perf_counter() - begin)


if __name__ == "__main__":
    main()
