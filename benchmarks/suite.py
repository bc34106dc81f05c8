"""All runs of the results page, one after the other: `python -m benchmarks.suite`.

Each finished run is one line of `benchmarks/results/transfer.jsonl` at once; a later call skips what is there and goes
on. `--list` says what is finished and what is not; `--minutes` starts no run after so many. One thread; the order is
such that what is finished at any moment is a table: the four main methods of each target over all seeds, then the
others, then the sweeps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.runs import Records, Setting, Workplace

RECORDS = Path("benchmarks/results/transfer.jsonl")
SEEDS = (0, 1, 2)
MAIN = ("supervised", "released", "algorithm1", "only_reconsolidation")
OTHERS = ("only_retention", "distillation", "difffit", "difffit_released", "lora", "lora_released")
_SHORT: dict[str, Any] = {
    "steps": 500,
    "every_steps": 250,
    "num_images": 250,
    "num_inference_steps": 10,
    "other_guidance": ("none", "domain"),
}
CORE: dict[str, dict[str, Any]] = {
    "digits": {"images_per_class": 10, "steps": 2000, "every_steps": 500},
    "greek": {"images_per_class": 4, **_SHORT},
    "shapes": {"images_per_class": 40, **_SHORT},
}
"""Per target the settings of its rows: about 100 training images each."""
SWEPT = "greek"
TAUS = ("tau_0.1", "tau_0.3", "tau_0.5", "tau_1.5")
BANKS = ("retention_30", "retention_100", "retention_300")
IMAGES_PER_CLASS = (2, 16, 64)


def core(methods: tuple[str, ...], targets: tuple[str, ...] = tuple(CORE)) -> list[Setting]:
    """The rows of the main table."""
    return [
        Setting(target=target, method=method, seed=seed, **CORE[target])
        for seed in SEEDS
        for target in targets
        for method in methods
    ]


def by_images() -> list[Setting]:
    """The number of target images, for plain fine-tuning and both recipes."""
    return [
        Setting(target=SWEPT, method=method, seed=seed, **{**CORE[SWEPT], "images_per_class": count})
        for seed in SEEDS
        for count in IMAGES_PER_CLASS
        for method in MAIN[:3]
    ]


def plan() -> list[Setting]:
    """Every run, in the order of its worth."""
    return [
        *core(MAIN),
        *core(OTHERS, ("greek", "shapes")),
        *core(TAUS, (SWEPT,)),
        *by_images(),
        *core(BANKS, (SWEPT,)),
        *core(OTHERS, ("digits",)),
    ]


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="only say what is finished and what is missing")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after this time")
    parser.add_argument("--folder", type=Path, default=Path("build/suite"))
    parser.add_argument("--models", type=Path, action="append", default=[])
    args = parser.parse_args()
    begin, records = time.monotonic(), Records(RECORDS)
    place = Workplace(args.folder, tuple(args.models))
    missing = [setting for setting in plan() if records.find(setting) is None]
    for setting in [] if args.list else missing:
        if time.monotonic() - begin > 60 * args.minutes:
            break
        run = place.run(setting)
        records.add(run)
        print(setting.target, setting.method, setting.seed, json.dumps(run["evaluations"][-1]), flush=True)
    if args.list:
        print(f"{len(plan()) - len(missing)} of {len(plan())} runs are finished; missing:")
        for setting in missing:
            print(f"  {setting.target} {setting.method} seed {setting.seed} ({setting.images_per_class} a class)")


if __name__ == "__main__":
    main()
