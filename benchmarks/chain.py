"""The chain of forgetting over seeds: `python -m benchmarks.chain --folder build/transfer --seeds 0 1 2`.

Takes the runs of `benchmarks.transfer` in a folder (and has it train those that are missing; options that this program
does not know are passed on), hands a growing last part of the reverse chain to the base model, and measures FID. The
last line is one JSON object: for each method and share the mean over seeds, its standard deviation, and the change to
the tuned model alone with its 95 % interval over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.statistics import paired, spread
from benchmarks.targets import TARGETS, write_target
from benchmarks.transfer import METHODS
from difftune_core.checkpoint.manifest import newest_whole

_COLOURS = ("#2a62d8", "#d2601a", "#1d8a6b", "#9a3fb0")
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def train_missing(args: argparse.Namespace, passed_on: list[str]) -> None:
    """Have `benchmarks.transfer` train what the folder lacks."""
    runs = [args.folder / f"{method}-{seed}" for method in args.methods for seed in args.seeds]
    if all(newest_whole(run / "checkpoints") for run in runs):
        return
    command = [sys.executable, "-m", "benchmarks.transfer", "--folder", str(args.folder), "--target", args.target]
    command += ["--methods", *args.methods, "--seeds", *map(str, args.seeds)]
    command += ["--images-per-class", str(args.images_per_class), "--model", args.model]
    for root in args.models:
        command += ["--models", str(root)]
    subprocess.run([*command, *passed_on], check=True, stdout=sys.stderr)


def analyse(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """The chain of every method's run of a seed."""
    train, validation, _ = write_target(
        args.target, args.folder / f"input-{seed}", seed, per_class=args.images_per_class
    )
    out = args.folder / f"chain-{seed}"
    out.mkdir(parents=True, exist_ok=True)
    evaluation = {"num_images": args.images, "num_inference_steps": args.sampling_steps}
    config = {"model": args.model, "seed": seed, "evaluation": {**evaluation, "guidance_scale": args.guidance_scale}}
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "difftune_core", "analyse", str(out / "config.json")]
    for method in args.methods:
        found = newest_whole(args.folder / f"{method}-{seed}" / "checkpoints")
        assert found is not None, f"{method}-{seed} has no checkpoint"
        command += ["--checkpoint", f"{method}={found[0]}"]
    for root in args.models:
        command += ["--models", str(root)]
    command += ["--data", str(train), "--validation", str(validation)]
    command += ["--cache", str(args.folder / "cache"), "--out", str(out)]
    with (out / "log.txt").open("wb") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=_ENVIRONMENT)
    result: dict[str, Any] = json.loads((out / "chain.json").read_text(encoding="utf-8"))
    return result


def row(checkpoints: list[dict[str, Any]]) -> dict[str, Any]:
    """A method's figures at each share, over its seeds."""
    columns = list(zip(*(checkpoint["points"] for checkpoint in checkpoints), strict=True))
    changes = [paired([point.get("fid_change", 0.0) for point in column]) for column in columns]
    return {
        "fid": [spread([point["fid"] for point in column]) for column in columns],
        "kid": [spread([point["kid"] for point in column]) for column in columns],
        "fid_change": [{k: round(v, 4) for k, v in vars(change).items()} if change else None for change in changes],
        "lowest_at": [checkpoint["minimum"]["fraction"] for checkpoint in checkpoints],
        "below_tuned": sum(checkpoint["minimum"]["is_below_tuned"] for checkpoint in checkpoints),
    }


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """FID, and its change to the tuned model alone, against the share: mean and range over seeds."""
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "difftune"}
    )
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.3), constrained_layout=True)
    for checkpoints, colour in zip(zip(*(r["checkpoints"] for r in results), strict=True), _COLOURS, strict=False):
        columns = list(zip(*(checkpoint["points"] for checkpoint in checkpoints), strict=True))
        shares = [100 * column[0]["fraction"] for column in columns]
        for axis, key in zip(axes, ("fid", "fid_change"), strict=True):
            values = [[point.get(key, 0.0) for point in column] for column in columns]
            means = [sum(v) / len(v) for v in values]
            axis.plot(shares, means, color=colour, marker="o", ms=3, label=checkpoints[0]["name"])
            axis.fill_between(
                shares, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.18, lw=0
            )
    axes[1].axhline(0, color="black", lw=0.8, ls="--")
    for axis, title in zip(axes, ("FID on held-out images", "change to the tuned model alone"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("% of the steps, next to the data, by the base model")
    axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=160)
    plt.close(figure)


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/transfer"), help="of benchmarks.transfer")
    parser.add_argument("--target", choices=TARGETS, default="digits")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["supervised", "algorithm1"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images-per-class", type=int, default=20, help="as the runs were trained")
    parser.add_argument("--images", type=int, default=500, help="drawn at each share")
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=1.5)
    parser.add_argument("--model", default="tiny-dit")
    parser.add_argument("--models", type=Path, action="append", default=[])
    parser.add_argument("--save", type=Path, help="file for every point of every run")
    parser.add_argument("--plot", type=Path, help="file for the plot, .svg or .png")
    return parser.parse_known_args()


def main() -> None:
    """Analyse every seed and print the table."""
    args, passed_on = _arguments()
    begin = time.monotonic()
    train_missing(args, passed_on)
    results = [analyse(seed, args) for seed in args.seeds]
    rows = {
        method: row([result["checkpoints"][position] for result in results])
        for position, method in enumerate(args.methods)
    }
    if args.save is not None:
        args.save.parent.mkdir(parents=True, exist_ok=True)
        kept = [{"seed": seed, **result} for seed, result in zip(args.seeds, results, strict=True)]
        args.save.write_text(json.dumps({"target": args.target, "runs": kept}, indent=1) + "\n", encoding="utf-8")
    if args.plot is not None:
        plot(results, args.plot)
    setting = {"target": args.target, "seeds": args.seeds, "images": args.images, "steps": args.sampling_steps}
    seconds = round(time.monotonic() - begin, 1)
    print(json.dumps({**setting, "fractions": results[0]["fractions"], "seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
