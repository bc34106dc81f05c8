"""Methods side by side on one target: `python -m workbench.study.transfer --quick`.

Two runs at a time, one thread each. The last line is one JSON object: for each row the mean over seeds of FID, KID and
forgetting, with their standard deviations. `--save` adds each finished run to a file such as the suite keeps, and takes
up what is in it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from workbench.study.runs import METHODS, Records, Setting, Workplace, run_missing
from workbench.study.statistics import spread
from workbench.study.targets import TARGETS

DEFAULT = ("supervised", "algorithm1", "released", "only_retention", "only_reconsolidation", "distillation")
QUICK: dict[str, Any] = {
    "methods": ["supervised", "algorithm1", "released"],
    "images_per_class": 10,
    "steps": 200,
    "batch_size": 32,
    "num_images": 250,
}
FIGURES = ("fid", "kid", "null_fid", "retention_loss", "target_images")


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one row of the table: each figure over seeds."""
    return {name: spread([entry.get(name) for entry in entries]) for name in FIGURES}


def rows(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The table."""
    methods = dict.fromkeys(run["method"] for run in runs)
    last = {name: summary([run["evaluations"][-1] for run in runs if run["method"] == name]) for name in methods}
    references = [run["references"] for run in runs if run["method"] == runs[0]["method"]]
    base, real, floor = (
        summary([reference[name] for reference in references])
        for name in ("base_model", "real_vs_real", "autoencoder_floor")
    )
    return {"base": base, **last, "real_vs_real": real, "autoencoder_floor": floor}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="100 images, 200 steps of 32, 250 samples, three methods and seeds"
    )
    parser.add_argument("--target", choices=TARGETS, default="digits")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(DEFAULT))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images-per-class", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of methods that state none themselves")
    parser.add_argument("--guidance-scale", type=float, default=1.5)
    parser.add_argument("--other-guidance", nargs="+", default=[], help="guidances judged beside cfg at the end")
    parser.add_argument("--num-images", type=int, default=500, help="drawn for each evaluation")
    parser.add_argument("--num-inference-steps", type=int, default=25, help="DDIM steps of an evaluation")
    parser.add_argument("--every-steps", type=int, help="evaluate along the way too")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--model", default="tiny-dit")
    parser.add_argument("--models", type=Path, action="append", default=[])
    parser.add_argument("--folder", type=Path, default=Path("build/transfer"), help="finished runs in it are taken up")
    parser.add_argument("--save", type=Path, help="file that keeps every evaluation of every run")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    return args


def settings_of(args: argparse.Namespace, method: str, seed: int) -> Setting:
    """The setting of one run."""
    named = ["target", "images_per_class", "steps", "batch_size", "learning_rate", "every_steps", "num_images"]
    named += ["num_inference_steps", "guidance_scale", "model"]
    given = {name: getattr(args, name) for name in named}
    return Setting(method=method, seed=seed, other_guidance=tuple(args.other_guidance), **given)


def main() -> None:
    """Run every method with every seed and print the table."""
    args = _arguments()
    begin = time.monotonic()
    settings = [settings_of(args, method, seed) for seed in args.seeds for method in args.methods]
    records = Records(args.save)
    run_missing(settings, Workplace(args.folder, tuple(args.models)), records, at_once=args.at_once)
    runs = [run for setting in settings if (run := records.find(setting)) is not None]
    setting = {"target": args.target, "steps": args.steps, "images_per_class": args.images_per_class}
    seconds = round(time.monotonic() - begin, 1)
    print(json.dumps({**setting, "seeds": args.seeds, "seconds": seconds, "rows": rows(runs)}))


if __name__ == "__main__":
    main()
