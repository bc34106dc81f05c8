"""`python -m benchmarks.scale`: memory and time of a job as its data set grows from 10 thousand images to 500 thousand.

For each size, images are made on the fly, validated, and trained on by the bundled model: latents of all, some steps,
an evaluation on the held-out tenth. Caching is killed once on the way, and has to go on from the files that were whole.
The last line is one JSON object: peak memory (MB, 10^6 bytes, pages of mapped files among it) and seconds by phase,
milliseconds a step, how much of it grew, and whether it kept within the bars.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.scale.child import Watched, running
from benchmarks.scale.data import write_images

_MOST_MB = 300.0
"""Most MB by which the peak of any phase may grow from the smallest size to the largest."""
_MOST_SLOWER = 0.05
"""Largest share by which the time of a step may grow from the smallest size to the largest."""
_STEPS, _LOGGED = 120, 10
_EVALUATION = {"num_images": 64, "num_inference_steps": 4, "every_steps": None}
_LOOK_S = 0.01


def _config(folder: Path, batch_size: int) -> Path:
    settings = {"max_steps": _STEPS, "batch_size": batch_size, "log_every_steps": _LOGGED}
    method = {"type": "supervised", "supervised": {"hyperparameters": settings}}
    path = folder / "config.json"
    path.write_text(json.dumps({"model": "tiny-dit", "method": method, "evaluation": _EVALUATION}), encoding="utf-8")
    return path


def _listed(validated: Path) -> str:
    """Return what a worker tells a trainer of a validation."""
    report = json.loads((validated / "report.json").read_bytes())
    return json.dumps({"items": str(validated / "items.jsonl"), "digest": report["digest"]})


def _shards(cache: Path, folders: str) -> dict[str, int]:
    """Files of latents that are whole, and when they were written."""
    found = cache.glob(f"*/latents/{folders}/rows-*")
    return {f"{path.parent.name.strip('.').split('.')[0]}/{path.name}": path.stat().st_mtime_ns for path in found}


def _kill_amid_caching(arguments: list[str | Path], cache: Path, threads: int) -> dict[str, int]:
    """Return what a trainer had finished that was killed when it had a file of latents; nothing if it was too fast."""
    with running(arguments, threads) as watched:
        while not watched.outcome and "training" not in watched.seconds:
            if found := _shards(cache, ".*.parts"):
                os.kill(watched.pid, signal.SIGKILL)
                return found
            time.sleep(_LOOK_S)
    return {}


def _kept(before: dict[str, int], cache: Path) -> int:
    """Return how many of these files are in the finished cache as they were."""
    made = _shards(cache, "[0-9a-f]*")
    return sum(made.get(name) == at for name, at in before.items())


def _measured(count: int, scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    archive, cache = write_images(scratch / f"{count}.zip", count), scratch / f"cache-{count}"
    config = _config(scratch, args.batch_size)
    with running(
        ["validate", config, "--data", archive, "--out", scratch / f"validated-{count}"], args.threads
    ) as seen:
        pass
    validated = seen
    listed = _listed(scratch / f"validated-{count}")
    arguments: list[str | Path] = ["train", config, "--data", archive, "--data-validated", listed, "--cache", cache]
    before = _kill_amid_caching([*arguments, "--out", scratch / f"killed-{count}"], cache, args.threads)
    with running([*arguments, "--out", scratch / f"out-{count}"], args.threads) as trained:
        pass
    for watched in (validated, trained):
        if watched.outcome.get("code") != "succeeded":
            raise SystemExit(f"{count} images: {watched.outcome}")
    archive.unlink()
    return _told(count, validated, trained) | {"shards_before_kill": len(before), "shards_kept": _kept(before, cache)}


def _told(count: int, validated: Watched, trained: Watched) -> dict[str, Any]:
    peaks = validated.peak_bytes | trained.peak_bytes
    seconds = validated.seconds | trained.seconds
    return {
        "images": count,
        "peak_mb": {phase: round(peak / 1e6, 1) for phase, peak in peaks.items() if phase != "starting"},
        "seconds": {phase: round(took, 1) for phase, took in seconds.items()},
        "step_ms": round(trained.step_seconds() * 1e3, 2),
    }


def _verdict(found: list[dict[str, Any]]) -> dict[str, Any]:
    first, last = found[0], found[-1]
    grown = {phase: round(last["peak_mb"][phase] - mb, 1) for phase, mb in first["peak_mb"].items()}
    slower = last["step_ms"] / first["step_ms"] - 1
    goes_on = all(one["shards_kept"] == one["shards_before_kill"] for one in found)
    return {
        "grown_mb": grown,
        "step_slower": round(slower, 4),
        "goes_on_from_its_shards": goes_on,
        "within_bars": max(grown.values()) <= _MOST_MB and slower <= _MOST_SLOWER and goes_on,
    }


def main() -> int:
    """Measure every size; the exit status is 0 where all kept within the bars."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="where data sets and caches are written, about 8 KB an image")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        found = []
        for count in sorted(args.sizes):
            found.append(_measured(count, Path(folder), args))
            sys.stderr.write(json.dumps(found[-1]) + "\n")
    verdict = _verdict(found)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    sys.stdout.write(json.dumps({"benchmark": "scale", "sizes": found, **verdict, **machine}) + "\n")
    return 0 if verdict["within_bars"] else 1


if __name__ == "__main__":
    sys.exit(main())
