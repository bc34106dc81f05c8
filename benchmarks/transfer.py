"""Methods side by side on one target: `python -m benchmarks.transfer --quick`.

Every run of a seed trains on the same images in the same order with the same noise, is judged by the same seeds, and
differs from the others in its method alone. Two runs at a time, one thread each. The last line is one JSON object: for
each row the mean over seeds of FID, KID and forgetting, with their standard deviations. `--save` keeps every evaluation
of every run, from which `benchmarks.results` makes the tables and plots of `docs/results.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.statistics import spread
from benchmarks.targets import TARGETS, write_target

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("supervised", {}),
    "algorithm1": ("diff_tuning", {}),
    "released": ("diff_tuning", {"recipe": "released"}),
    "tau_0.5": ("diff_tuning", {"tau": 0.5}),
    "tau_0.3": ("diff_tuning", {"tau": 0.3}),
    "only_reconsolidation": ("diff_tuning", {"components": "reconsolidation"}),
    "only_retention": ("diff_tuning", {"components": "retention"}),
    "distillation": ("diff_tuning", {"recipe": "distillation"}),
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
    evaluation = {"every_steps": args.every_steps, "guidance_scale": args.guidance_scale}
    if args.num_images is not None:
        evaluation["num_images"] = args.num_images
    if args.other_guidance:
        evaluation["other_guidance"] = args.other_guidance
    return {
        "model": args.model,
        "seed": seed,
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        "evaluation": evaluation,
    }


def run(method: str, seed: int, inputs: tuple[Path, Path], args: argparse.Namespace) -> dict[str, Any]:
    """Train and judge once, or take up what an earlier call has finished; the run's report."""
    folder = args.folder / f"{method}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config(method, seed, args))
    stated, finished = folder / "config.json", folder / "report.json"
    if not (finished.is_file() and stated.is_file() and stated.read_text(encoding="utf-8") == text):
        finished.unlink(missing_ok=True)
        stated.write_text(text, encoding="utf-8")
        _train(folder, *inputs, args)
    report: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
    return report


def _train(folder: Path, data: Path, validation: Path, args: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "difftune_core", "train", str(folder / "config.json")]
    command += ["--data", str(data), "--validation", str(validation)]
    for root in args.models:
        command += ["--models", str(root)]
    command += ["--cache", str(args.folder / "cache"), "--out", str(folder)]
    with (folder / "log.txt").open("wb") as log:
        subprocess.run(
            command, check=True, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )


def figures(entry: dict[str, Any]) -> dict[str, float | None]:
    """The figures of one evaluation."""
    flat = {**entry, **entry.get("forgetting", {})}
    return {name: flat.get(name) for name in FIGURES}


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table: each figure over seeds."""
    found = [figures(entry) for entry in entries]
    return {name: spread([row[name] for row in found]) for name in FIGURES}


def save(path: Path, args: argparse.Namespace, reports: dict[tuple[str, int], dict[str, Any]], seconds: float) -> None:
    """Every evaluation of every run, with what it was made by."""
    first = next(iter(reports.values()))
    runs = [
        {"method": method, "seed": seed, "evaluations": report["evaluations"], "references": report["references"]}
        for (method, seed), report in reports.items()
    ]
    made_by = {
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),  # noqa: S607  # git is git
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread a run",
        "seconds": seconds,
    }
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    kept = {name: settings[name] for name in sorted(settings.keys() - {"folder", "models", "save", "quick", "at_once"})}
    whole = {"settings": kept, "recipe": first["recipe"], "made_by": made_by, "runs": runs}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="100 images, 200 steps of 32, 250 samples, three methods and seeds"
    )
    parser.add_argument("--target", choices=TARGETS, default="digits")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images-per-class", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--guidance-scale", type=float, default=1.5)
    parser.add_argument("--other-guidance", nargs="+", default=[], help="guidances judged beside cfg at the end")
    parser.add_argument("--num-images", type=int, help="drawn for each evaluation; the model's own default if left out")
    parser.add_argument("--every-steps", type=int, help="evaluate along the way too")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--model", default="tiny-dit")
    parser.add_argument("--models", type=Path, action="append", default=[])
    parser.add_argument("--folder", type=Path, default=Path("build/transfer"), help="finished runs in it are taken up")
    parser.add_argument("--save", type=Path, help="file for every evaluation of every run")
    args = parser.parse_args()
    if args.quick:
        args.methods, args.images_per_class, args.steps, args.batch_size = list(QUICK), 10, 200, 32
        args.num_images = 250
    return args


def main() -> None:
    """Run every method with every seed and print the table."""
    args = _arguments()
    begin = time.monotonic()
    inputs, num_images = {}, 0
    for seed in args.seeds:
        place = args.folder / f"input-{seed}"
        train, validation, num_images = write_target(args.target, place, seed, per_class=args.images_per_class)
        inputs[seed] = train, validation
    pairs = [(method, seed) for seed in args.seeds for method in args.methods]
    with ThreadPoolExecutor(args.at_once) as pool:
        reports = dict(zip(pairs, pool.map(lambda pair: run(*pair, inputs[pair[1]], args), pairs), strict=True))
    references = [reports[args.methods[0], seed]["references"] for seed in args.seeds]
    rows = {"base": summary([reference["base_model"] for reference in references])}
    for method in args.methods:
        rows[method] = summary([reports[method, seed]["evaluations"][-1] for seed in args.seeds])
    for name in ("real_vs_real", "autoencoder_floor"):
        rows[name] = summary([reference[name] for reference in references])
    seconds = round(time.monotonic() - begin, 1)
    if args.save is not None:
        save(args.save, args, reports, seconds)
    setting = {"target": args.target, "steps": args.steps, "images": num_images, "seeds": args.seeds}
    print(json.dumps({**setting, "seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
