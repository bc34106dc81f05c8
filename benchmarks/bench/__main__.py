"""`python -m benchmarks.bench [NAME ...]`: our speed on a CPU beside plain ways to do the same, as JSON lines.

Each figure is a ratio of blocks in turn, A B A B, with its 95 % interval, its bar, and a guard that both sides do the
same. The exit status is 1 where a bar is missed or a guard has not held.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks.harness.claims import Claim
from benchmarks.harness.lines import tell

NAMES = ("start", "latents", "ingest", "frechet", "copies", "checkpoints", "training", "training_at_256")


def main() -> int:
    """Run the benchmarks that are named, by default all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--keep", type=Path, help="append the lines to this file")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    ok = True
    for name in options.names or NAMES:
        measured: Callable[[Path], list[Claim]] = import_module(f"benchmarks.bench.{name}").measured
        with tempfile.TemporaryDirectory() as folder:
            for claim in measured(Path(folder)):
                tell(claim.told(), options.keep)
                ok = ok and claim.ok
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
