"""V7: how long a checkpoint keeps training from going on, as on a CPU."""

from __future__ import annotations

from benchmarks.bench import checkpoints
from benchmarks.gpu.bench import Bench
from benchmarks.harness.claims import Claim


def stall(bench: Bench) -> list[Claim]:
    """Time saving at a size whose files are written within seconds."""
    return checkpoints.measured(bench.folder, bench.sizes.saved, str(bench.device), "V7", bench.bar(at_most=0.2))
