"""`python -m benchmarks.gpu --minutes 9 --out DIR`: T1 to T9, C1 to C4, S1, S2, V7, the roofline and each lever.

All weights are random, so nothing is downloaded. Each figure is appended to DIR/gpu.jsonl as soon as it is known. A row
that fails is told with its error, one that no time is left for is told as skipped, and a row that runs out of memory is
run again with half as many images at once. Without a GPU everything runs in small, to see that it can. The exit status
is 1 where a row failed, a bar was missed, or a guard has not held.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.gpu.bench import FULL, SMALL, Bench, SkippedError
from benchmarks.harness.claims import Claim
from benchmarks.harness.lines import tell
from difftune_core.runtime.memory import is_out_of_memory

ROWS = {
    "roofline": "roofline:roofline",
    "T1,T3": "training:against_released",
    "T2,T4": "training:against_fast",
    "S1,S2": "sampling:sampling",
    "T5,T6,T7": "training:parts_of_a_step",
    "T9": "training:memory",
    "V7": "checkpoints:stall",
    "C1,C2,C3,C4": "controlnet:controlnet",
    "T8": "first_step:first_step",
    "ladder": "ladder:ladder",
}
"""The rows, in the order in which time is spent on them."""
_HALVINGS = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="no row is begun after them")
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.jsonl")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--small", action="store_true", help="in small on a GPU too")
    options = parser.parse_args(arguments)
    on_gpu = torch.cuda.is_available()
    device, keep = torch.device("cuda" if on_gpu else "cpu"), options.out / "gpu.jsonl"
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        ends = time.monotonic() + 60 * options.minutes
        bench = Bench(device, FULL if on_gpu and not options.small else SMALL, Path(folder), ends)
        for name in options.rows:
            found = _row(bench, name, keep)
            ok = ok and found
    return 0 if ok else 1


def _row(bench: Bench, name: str, keep: Path) -> bool:
    """Run a row and tell it; whether all is well with it."""
    begin = time.monotonic()
    common = {"row": name, "sizes": bench.sizes.name}
    if bench.left_s <= 0:
        tell({**common, "skipped": "no time is left"}, keep)
        return True
    try:
        claims = _measured(bench, name)
    except SkippedError as reason:
        tell({**common, "skipped": str(reason)}, keep)
        return True
    except ImportError as error:
        tell({**common, "skipped": f"it needs {error.name or error}, which is not installed"}, keep)
        return True
    except Exception as error:  # noqa: BLE001  # the other rows are worth their time
        traceback.print_exc()
        tell({**common, "error": f"{type(error).__name__}: {error}", "ok": False}, keep)
        return False
    took = round(time.monotonic() - begin, 1)
    for claim in claims:
        tell({**common, **claim.told(), "row_seconds": took}, keep)
    return all(claim.ok for claim in claims)


def _measured(bench: Bench, name: str) -> list[Claim]:
    module, function = ROWS[name].split(":")
    row: Callable[[Bench], list[Claim]] = getattr(import_module(f"benchmarks.gpu.{module}"), function)
    for _ in range(_HALVINGS):
        try:
            return row(bench)
        except Exception as error:
            if not is_out_of_memory(error) or bench.sizes.batch == 1:
                raise
        finally:
            _let_go(bench)
        bench = bench.halved()
    return row(bench)


def _let_go(bench: Bench) -> None:
    """Free what a row has left behind."""
    gc.collect()
    if bench.on_gpu:
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
