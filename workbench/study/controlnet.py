"""When a ControlNet begins to follow its control, plainly and by Diff-Tuning: `python -m workbench.study.controlnet`.

Every run of a seed trains on the same scenes of world B in the same order with the same noise, and is judged from equal
controls and noise; runs of a pair differ in their method alone. The last line is one JSON object: for each condition
and method the steps of sudden convergence (null where none was found), and over seeds the final agreement, FID and
forgetting with their standard deviations; for each condition the share of the steps that the other method saves against
`supervised`: to sudden convergence, of the pairs in which both converged, and on the way to equal scores, of all pairs.
Finished runs in `--folder` are taken up; `--save` keeps every evaluation of every run.
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

from cli.demo.scene_zips import TRAIN_FILE, VALIDATION_FILE, write_scenes
from difftune_core.config.conditions import all_conditions, find_condition
from difftune_core.config.reports.run import RunReport
from difftune_core.evaluate.comparison.convergence import saved_to_convergence, saved_to_equal_scores
from difftune_core.files import build_once
from workbench.study.statistics import spread

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("supervised", {}),
    "diff_tuning": ("diff_tuning", {}),
    "released": ("diff_tuning", {"recipe": "released"}),
}
Key = tuple[str, str, int]


def config(key: Key, args: argparse.Namespace) -> dict[str, Any]:
    """The transfer config of one run."""
    condition, name, seed = key
    kind, changes = METHODS[name]
    hyperparameters = {"max_steps": args.steps, "checkpoint_every_steps": args.steps, **changes}
    for field in ("batch_size", "learning_rate"):
        if getattr(args, field) is not None:
            hyperparameters[field] = getattr(args, field)
    evaluation = {"every_steps": max(1, args.steps // args.evaluations)}
    if args.num_images is not None:
        evaluation["num_images"] = args.num_images
    return {
        "model": args.model,
        "seed": seed,
        "control": {"condition": condition, "num_validation": args.num_validation},
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        "evaluation": evaluation,
    }


def run(key: Key, args: argparse.Namespace) -> dict[str, Any]:
    """Train and judge once, or take up what an earlier call has finished; the run's report."""
    folder = args.folder / "-".join(map(str, key))
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config(key, args))
    stated, finished = folder / "config.json", folder / "report.json"
    if not (finished.is_file() and stated.is_file() and stated.read_text(encoding="utf-8") == text):
        finished.unlink(missing_ok=True)
        stated.write_text(text, encoding="utf-8")
        _train(folder, key, args)
    report: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
    return report


def _train(folder: Path, key: Key, args: argparse.Namespace) -> None:
    condition, _, seed = key
    given = condition if args.true_controls else None
    place = args.folder / f"input-{condition if given else 'plain'}-{args.images}-{seed}"

    def draw(aside: Path) -> None:
        write_scenes(aside, seed, num_train=args.images, condition=given)

    build_once(place, draw)  # runs side by side share it
    command = [sys.executable, "-m", "difftune_core", "train", str(folder / "config.json")]
    command += ["--data", str(place / TRAIN_FILE), "--validation", str(place / VALIDATION_FILE)]
    for root in args.models:
        command += ["--models", str(root)]
    command += ["--cache", str(args.folder / "cache"), "--out", str(folder)]
    with (folder / "log.txt").open("wb") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)


def row(condition: str, reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one method's figures over seeds."""
    metric, last = find_condition(condition).figures[0], [report["evaluations"][-1] for report in reports]
    return {
        "convergence_steps": [report["convergence"]["step"] for report in reports],
        "reasons": [report["convergence"]["reason"] for report in reports],
        metric: spread([entry[metric] for entry in last]),
        "fid": spread([entry["fid"] for entry in last]),
        "forgetting": spread([entry["forgetting"]["null_fid"] for entry in last]),
        "drift": spread([entry["forgetting"]["empty_control_mse"] for entry in last]),
    }


def gains(reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Share of the steps that each other method saves against `supervised`, over seeds."""
    read = {name: [RunReport.model_validate(report) for report in found] for name, found in reports.items()}
    plain = read["supervised"]
    return {
        name: {
            "convergence": spread([saved_to_convergence(*pair) for pair in zip(plain, others, strict=True)]),
            "equal_scores": spread([saved_to_equal_scores(*pair) for pair in zip(plain, others, strict=True)]),
        }
        for name, others in read.items()
        if name != "supervised"
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="edge, two methods, one seed, 160 steps, 16 evaluations")
    parser.add_argument("--conditions", nargs="+", choices=list(all_conditions()), default=list(all_conditions()))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["supervised", "diff_tuning"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--batch-size", type=int, help="default: the model card's")
    parser.add_argument("--learning-rate", type=float, help="default: the model card's")
    parser.add_argument("--num-validation", type=int, default=16)
    parser.add_argument("--num-images", type=int, help="drawn for FID; default: the model card's")
    parser.add_argument("--true-controls", action="store_true", help="the world's own maps instead of drawn ones")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--model", default="tiny-sd")
    parser.add_argument("--models", type=Path, action="append", default=[])
    parser.add_argument("--folder", type=Path, default=Path("build/controlnet"))
    parser.add_argument("--save", type=Path, help="file for every evaluation of every run")
    args = parser.parse_args()
    if args.quick:
        args.conditions, args.seeds, args.steps, args.evaluations = ["edge"], [0], 160, 16
    return args


def _save(args: argparse.Namespace, reports: dict[Key, dict[str, Any]], rows: dict[str, Any]) -> None:
    kept = ("evaluations", "convergence", "references")
    runs = [
        {"condition": key[0], "method": key[1], "seed": key[2], **{name: report[name] for name in kept}}
        for key, report in reports.items()
    ]
    first = next(iter(reports.values()))
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()  # noqa: S607  # git is git
    settings = {name: getattr(args, name) for name in ("steps", "evaluations", "images", "num_validation", "seeds")}
    whole = {"settings": settings, "recipe": first["recipe"], "commit": commit, "rows": rows, "runs": runs}
    args.save.parent.mkdir(parents=True, exist_ok=True)
    args.save.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run every condition with every method and seed, and print the table."""
    args, begin = _arguments(), time.monotonic()
    keys = [(c, m, s) for c in args.conditions for s in args.seeds for m in args.methods]
    with ThreadPoolExecutor(args.at_once) as pool:
        reports = dict(zip(keys, pool.map(lambda key: run(key, args), keys), strict=True))
    rows: dict[str, Any] = {}
    for condition in args.conditions:
        of_method = {m: [reports[condition, m, s] for s in args.seeds] for m in args.methods}
        rows[condition] = {m: row(condition, found) for m, found in of_method.items()}
        rows[condition]["gain"] = gains(of_method) if "supervised" in of_method else {}
    if args.save is not None:
        _save(args, reports, rows)
    seconds = round(time.monotonic() - begin, 1)
    print(json.dumps({"steps": args.steps, "seeds": args.seeds, "seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
