"""The chain of forgetting over seeds: `python -m workbench.study.chain --methods supervised released`.

Takes the runs of a table of `workbench.study.suite` (and trains those whose checkpoints are not in the folder), hands a
growing last part of the reverse chain to the base model, and measures FID. The last line is one JSON object: for each
method and share the mean over seeds, its standard deviation, and the change to the tuned model alone with its 95 %
interval over seeds.
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

from difftune_core.checkpoint.manifest import newest_whole
from workbench.study.runs import METHODS, Setting, Workplace
from workbench.study.statistics import paired, spread
from workbench.study.suite import CORE, SEEDS, TABLES


def analyse(seed: int, place: Workplace, args: argparse.Namespace) -> dict[str, Any]:
    """The chain of every method's run of a seed."""
    settings = [_setting(args.table, name, seed) for name in args.methods]
    out = place.folder / f"chain-{args.table}-{seed}"
    out.mkdir(parents=True, exist_ok=True)
    evaluation = {"num_images": args.images, "num_inference_steps": args.sampling_steps, "guidance_scale": 1.5}
    config = {"model": settings[0].model, "seed": seed, "evaluation": evaluation}
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "difftune_core", "analyse", str(out / "config.json")]
    for setting in settings:
        command += ["--checkpoint", f"{setting.method}={_checkpoint(setting, place)}"]
    train, validation = place.inputs(settings[0])
    command += ["--data", str(train), "--validation", str(validation)]
    command += ["--cache", str(place.folder / "cache"), "--out", str(out)]
    with (out / "log.txt").open("wb") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
    result: dict[str, Any] = json.loads((out / "chain.json").read_text(encoding="utf-8"))
    return result


def _setting(table: str, method: str, seed: int) -> Setting:
    found = [setting for setting in TABLES[table] if (setting.method, setting.seed) == (method, seed)]
    return max(found, key=lambda setting: setting.steps)  # not the one of half the steps


def _checkpoint(setting: Setting, place: Workplace) -> Path:
    checkpoints = place.run_folder(setting) / "checkpoints"
    if newest_whole(checkpoints) is None:
        place.run(setting)
    found = newest_whole(checkpoints)
    assert found is not None, f"{checkpoints} has no checkpoint"
    return found[0]


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


def main() -> None:
    """Analyse every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/suite"), help="of workbench.study.suite")
    parser.add_argument("--table", choices=(*CORE, "digits-long"), default="digits-long")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["supervised", "algorithm1"])
    parser.add_argument("--images", type=int, default=500, help="drawn at each share")
    parser.add_argument("--sampling-steps", type=int, default=10)
    parser.add_argument("--save", type=Path, help="file for every point of every run")
    args = parser.parse_args()
    begin, place = time.monotonic(), Workplace(args.folder)
    results = [analyse(seed, place, args) for seed in SEEDS]
    rows = {
        method: row([result["checkpoints"][position] for result in results])
        for position, method in enumerate(args.methods)
    }
    if args.save is not None:
        args.save.parent.mkdir(parents=True, exist_ok=True)
        kept = [{"seed": seed, **result} for seed, result in zip(SEEDS, results, strict=True)]
        args.save.write_text(json.dumps({"table": args.table, "runs": kept}, indent=1) + "\n", encoding="utf-8")
    setting = {"table": args.table, "seeds": SEEDS, "images": args.images, "steps": args.sampling_steps}
    seconds = round(time.monotonic() - begin, 1)
    print(json.dumps({**setting, "fractions": results[0]["fractions"], "seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
