"""All runs of the results page: `python -m workbench.study.suite`.

Each finished run is one line of `workbench/study/results/transfer.jsonl` at once; a later call skips what is there and
goes on. The order is such that what is finished at any moment is a table: the main methods of each target over all
seeds, then the sweeps, then the other methods. The lesser base model is trained
first if a run that is missing needs it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.study.lesser_base import LESSER_BASE, lesser_base
from workbench.study.runs import Records, Setting, Workplace, run_missing

RECORDS = Path("workbench/study/results/transfer.jsonl")
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
_LONG: dict[str, Any] = {
    "steps": 2000,
    "every_steps": 500,
    "num_images": 500,
    "num_inference_steps": 25,
    "other_guidance": (),
}
CORE: dict[str, dict[str, Any]] = {
    "greek": {"images_per_class": 4, **_SHORT},
    "digits": {"images_per_class": 10, **_SHORT},
    "shapes": {"images_per_class": 40, **_SHORT},
}
"""Settings of each target's rows, from near to far: about 100 training images each."""
TAUS = (0.1, 0.3, 0.5, 1.5)
BANKS = (30, 300)
IMAGES_PER_CLASS = (2, 10, 100)
Points = list[tuple[str, float, list[Setting]]]
"""Points of a sweep: the row, the value, and the runs."""


def rows(target: str, methods: tuple[str, ...], **changes: Any) -> list[Setting]:
    """Methods on one target over all seeds, seed by seed."""
    settings = {**CORE[target], **changes}
    return [Setting(target=target, method=method, seed=seed, **settings) for seed in SEEDS for method in methods]


def half(target: str, **changes: Any) -> list[Setting]:
    """Plain fine-tuning for half the steps: as many target images as Algorithm 1 sees, with a weight average to fit.

    An evaluation halfway through the long run would not do: its weight average still holds much of the base model.
    """
    return rows(target, ("supervised",), **{**changes, "steps": {**CORE[target], **changes}["steps"] // 2})


TABLES: dict[str, list[Setting]] = {
    **{target: [*rows(target, MAIN), *half(target), *rows(target, OTHERS)] for target in CORE},
    "digits-long": [*rows("digits", MAIN, **_LONG), *half("digits", **_LONG)],
    "digits-lesser": rows("digits", MAIN, model=LESSER_BASE),
}
"""The tables of the page: every target in one setting, a long run, and a base model of lesser quality."""


def _of_algorithm1(target: str, prefix: str, values: tuple[float, ...], own: float) -> Points:
    """Return each value's method, and Algorithm 1 at its default `own`."""
    named = [(value, f"{prefix}_{value}") for value in values] + [(own, "algorithm1")]
    return [("algorithm1", value, rows(target, (method,))) for value, method in named]


SWEEPS: dict[str, tuple[str, Points]] = {
    "tau": ("greek", [*_of_algorithm1("greek", "tau", TAUS, 1.0), ("algorithm1", 0.0, rows("greek", ("supervised",)))]),
    "target images of each class": (
        "digits",
        [(m, n, rows("digits", (m,), images_per_class=n)) for n in IMAGES_PER_CLASS for m in MAIN[:3]],
    ),
    "retention images": ("digits", _of_algorithm1("digits", "retention", BANKS, 1000)),
}
"""Target and points of each factor. tau = 0 is plain fine-tuning, bit for bit."""


def beyond_tables(factor: str) -> list[Setting]:
    """The runs of a sweep that no table has, seed by seed."""
    target, points = SWEEPS[factor]
    known = set(TABLES[target])
    return sorted((s for *_, settings in points for s in settings if s not in known), key=lambda s: s.seed)


GROUPS: dict[str, list[Setting]] = {
    "greek: all methods": TABLES["greek"],
    "digits: four main methods, 2,000 steps": TABLES["digits-long"],
    **{f"{target}: four main methods": [*rows(target, MAIN), *half(target)] for target in ("digits", "shapes")},
    **{f"{SWEEPS[factor][0]}: by {factor}": beyond_tables(factor) for factor in SWEEPS},
    "digits: from a lesser base model": TABLES["digits-lesser"],
    **{f"{target}: other methods": rows(target, OTHERS) for target in ("digits", "shapes")},
}
"""Every planned run, in the order of its worth."""


def main() -> None:
    """Run what is missing, or list it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="only say how much of each group is finished")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after this time")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side, one thread each")
    parser.add_argument("--folder", type=Path, default=Path("build/suite"), help="finished runs in it are taken up")
    args = parser.parse_args()
    records = Records(RECORDS)
    if args.list:
        for name, group in GROUPS.items():
            print(f"{sum(records.find(setting) is not None for setting in group):3} of {len(group):3}  {name}")
        return
    planned = [setting for group in GROUPS.values() for setting in group]
    missing = [setting for setting in planned if records.find(setting) is None]
    needs_lesser = any(setting.model == LESSER_BASE for setting in missing)
    models = (lesser_base(args.folder / "models"),) if needs_lesser else ()
    run_missing(missing, Workplace(args.folder, models), records, at_once=args.at_once, minutes=args.minutes)


if __name__ == "__main__":
    main()
