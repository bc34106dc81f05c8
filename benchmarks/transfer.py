"""Methods side by side on one target: `python -m benchmarks.transfer --quick`.

Every run of a seed trains on the same images in the same order with the same noise, is judged by the same seeds, and
differs from the others in its method alone. Two runs at a time, one thread each. The last line is one JSON object: for
each row the mean over seeds of FID, KID and forgetting, with their standard deviations.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.statistics import spread
from cli.demo.digits import write_digits

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("supervised", {}),
    "algorithm1": ("diff_tuning", {}),
    "released": ("diff_tuning", {"recipe": "released"}),
    "tau_0.5": ("diff_tuning", {"tau": 0.5}),
    "only_reconsolidation": ("diff_tuning", {"components": "reconsolidation"}),
    "only_retention": ("diff_tuning", {"components": "retention"}),
}
QUICK = ("supervised", "algorithm1", "released")
FIGURES = ("fid", "kid", "null_fid", "retention_loss", "target_images")


def config(method: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """The transfer config of one run."""
    kind, changes = METHODS[method]
    hyperparameters = {
        "max_steps": args.steps,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "checkpoint_every_steps": args.steps,
        **changes,
    }
    return {
        "model": args.model,
        "seed": seed,
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        "evaluation": {"every_steps": args.every_steps, "guidance_scale": args.guidance_scale},
    }


def run(method: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and judge once; the run's report."""
    folder = args.folder / f"{method}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(method, seed, args)), encoding="utf-8")
    inputs = args.folder / f"input-{seed}"
    command = [sys.executable, "-m", "difftune_core", "train", str(folder / "config.json")]
    command += ["--data", str(inputs / "digits-train.zip"), "--validation", str(inputs / "digits-validation.zip")]
    for root in args.models:
        command += ["--models", str(root)]
    command += ["--cache", str(args.folder / "cache"), "--out", str(folder)]
    with (folder / "log.txt").open("wb") as log:
        subprocess.run(
            command, check=True, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def figures(entry: dict[str, Any]) -> dict[str, float | None]:
    """The figures of one evaluation."""
    flat = {**entry, **entry.get("forgetting", {})}
    return {name: flat.get(name) for name in FIGURES}


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table: each figure over seeds."""
    found = [figures(entry) for entry in entries]
    return {name: spread([row[name] for row in found]) for name in FIGURES}


def main() -> None:
    """Run every method with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 images, 200 steps, three methods, three seeds")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images-per-class", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--guidance-scale", type=float, default=1.5)
    parser.add_argument("--every-steps", type=int, help="evaluate along the way too")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--model", default="tiny-dit")
    parser.add_argument("--models", type=Path, action="append", default=[])
    parser.add_argument("--folder", type=Path, default=Path("build/transfer"))
    args = parser.parse_args()
    if args.quick:
        args.methods, args.images_per_class, args.steps = list(QUICK), 10, 200
    begin = time.monotonic()
    for seed in args.seeds:
        write_digits(args.folder / f"input-{seed}", seed, per_class=args.images_per_class)
    pairs = [(method, seed) for method in args.methods for seed in args.seeds]
    with ThreadPoolExecutor(args.at_once) as pool:
        reports = dict(zip(pairs, pool.map(lambda pair: run(*pair, args), pairs), strict=True))
    references = [reports[args.methods[0], seed]["references"] for seed in args.seeds]
    rows = {"base": summary([reference["base_model"] for reference in references])}
    for method in args.methods:
        rows[method] = summary([reports[method, seed]["evaluations"][-1] for seed in args.seeds])
    for name in ("real_vs_real", "autoencoder_floor"):
        rows[name] = summary([reference[name] for reference in references])
    setting = {"target": "digits", "steps": args.steps, "images": args.images_per_class * 10, "seeds": args.seeds}
    print(json.dumps({**setting, "seconds": round(time.monotonic() - begin, 1), "rows": rows}))


if __name__ == "__main__":
    main()
