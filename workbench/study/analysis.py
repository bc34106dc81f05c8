"""`python -m workbench.study.analysis`: the end points of `PLAN.md` from the rows that are done, as JSON.

Written before the rows: what is compared with what is the plan's, and rows that are missing leave their pairs out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable
from typing import Any

from workbench.study.__main__ import records
from workbench.study.plan import BATCH, METHODS_OF_B, RETENTIONS, WEIGHTINGS
from workbench.study.statistics import paired, spread

Record = dict[str, Any]
GUIDANCES = ("cfg", "none", "domain")
_DIGITS = 4


def lowest(record: Record, average: str = "short") -> dict[str, Any]:
    """Give the evaluation with the lowest held-out FID, and its step."""
    found = min(record["evaluations"], key=lambda entry: entry[average]["fid"])
    return {"step": found["step"], **found[average]}


def lowest_handed_over(record: Record) -> float:
    """Give the lowest FID of the whole run with any share handed over, none among them."""
    entries = record["evaluations"]
    handed = [figures["fid"] for entry in entries for figures in entry.get("handover", {}).values()]
    return float(min([*(entry["short"]["fid"] for entry in entries), *handed]))


def end_point(record: Record, guidance: str, average: str = "short") -> float:
    """Give the lowest FID under CFG; under another guidance the FID where CFG's is lowest."""
    if guidance == "cfg":
        return float(lowest(record, average)["fid"])
    return float(record["at_lowest"][average][guidance]["fid"])


def effects(done: Iterable[Record], target: str, average: str = "short") -> dict[str, Any]:
    """Compare the cells of the factorial, seed by seed, as shares of plain fine-tuning's end point.

    Returns:
        For each guidance: what each kind of retention adds beside each loss weight and on average over these, what
        each weight does without retention, each with its interval over seeds; and how many seeds there are.
    """
    cells = {(r["method"], r["seed"]): r for r in done if r["study"] == "A" and r["target"] == target}
    seeds = sorted({seed for method, seed in cells if method == "none+none"})
    found: dict[str, Any] = {"seeds": seeds}
    for guidance in GUIDANCES:

        def relative(cell: str, beside: str, seed: int, guidance: str = guidance) -> float | None:
            if (cell, seed) not in cells or (beside, seed) not in cells:
                return None
            plain = end_point(cells["none+none", seed], guidance, average)
            own, other = (end_point(cells[name, seed], guidance, average) for name in (cell, beside))
            return (own - other) / plain

        table: dict[str, Any] = {}
        for kind in RETENTIONS[1:]:
            by_weight = {w: [relative(f"{w}+{kind}", f"{w}+none", seed) for seed in seeds] for w in WEIGHTINGS}
            table[kind] = {weight: _interval(values) for weight, values in by_weight.items()}
            table[kind]["primary"] = _interval([_mean(column) for column in zip(*by_weight.values(), strict=True)])
        for weight in WEIGHTINGS[1:]:
            table[weight] = _interval([relative(f"{weight}+none", "none+none", seed) for seed in seeds])
        found[guidance] = table
    return found


def turning_points(done: Iterable[Record]) -> dict[str, Any]:
    """Tell for each number of images and method when FID is lowest, and how low, with copies and hand-over there."""
    kept = [record for record in done if record["study"] == "B"]
    found: dict[str, Any] = {}
    for per_class in sorted({record["images_per_class"] for record in kept}):
        for method in METHODS_OF_B:
            rows = [r for r in kept if (r["images_per_class"], r["method"]) == (per_class, method)]
            if rows:
                found.setdefault(str(10 * per_class), {})[method] = _turning(rows, 10 * per_class)
    return found


def growth(table: dict[str, Any]) -> dict[str, float]:
    """Fit the slope of log(step of the lowest FID) over log(images) for each method that has two numbers of images."""
    slopes = {}
    for method in METHODS_OF_B:
        points = [(math.log(int(n)), math.log(rows[method]["step"])) for n, rows in table.items() if method in rows]
        if len(points) > 1:
            slopes[method] = round(statistics.linear_regression(*zip(*points, strict=True)).slope, _DIGITS)
    return slopes


def _turning(rows: list[Record], images: int) -> dict[str, Any]:
    minima = [lowest(record) for record in rows]
    step = statistics.median(entry["step"] for entry in minima)
    return {
        "seeds": [record["seed"] for record in rows],
        "step": step,
        "epochs": round(step * BATCH / images),
        "fid": spread([entry["fid"] for entry in minima]),
        "copies": spread([entry["copies"] for entry in minima]),
        "fid_at_end": spread([record["evaluations"][-1]["short"]["fid"] for record in rows]),
        "copies_at_end": spread([record["evaluations"][-1]["short"]["copies"] for record in rows]),
        "fid_with_handover": spread([lowest_handed_over(record) for record in rows]),
        "training_set": spread([record["training_set"]["fid"] for record in rows]),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else statistics.mean(value for value in known if value is not None)


def _interval(values: list[float | None]) -> dict[str, Any] | None:
    found = paired(known := [value for value in values if value is not None])
    if found is None:
        return None
    return {name: round(value, _DIGITS) for name, value in vars(found).items()} | {"n": len(known)}


def main() -> None:
    """Print what the finished rows say."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    done = records()
    of_images = turning_points(done)
    told = {"B": of_images, "growth": growth(of_images), **{f"A {t}": effects(done, t) for t in ("digits", "greek")}}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
