"""The demo over several seeds: `python -m workbench.study.demo --seeds 0 1 2`.

A seed draws which 200 digits are trained on, and all randomness of both jobs; the two jobs of one seed are paired.
Prints mean and standard deviation over seeds of each figure, at equal steps and at equal target images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from workbench.study.statistics import spread

FIGURES = ("fid", "kid", "null_fid", "retention_loss", "target_images")


def run_seed(seed: int, folder: Path, max_steps: int | None) -> dict[str, Any]:
    """Run one demo; return the reports of both methods by name."""
    command = [sys.executable, "-m", "cli", "demo", "--folder", str(folder), "--seed", str(seed)]
    if max_steps is not None:
        command += ["--max-steps", str(max_steps)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {
        method: json.loads((folder / f"{method}-report.json").read_text(encoding="utf-8"))
        for method in ("supervised", "diff_tuning")
    }


def figures(entry: dict[str, Any]) -> dict[str, float | None]:
    """The figures of one evaluation."""
    flat = {**entry, **entry.get("forgetting", {})}
    return {name: flat.get(name) for name in FIGURES}


def rows(reports: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return every row of the comparison for one seed."""
    supervised = sorted(reports["supervised"]["evaluations"], key=lambda entry: entry["step"])
    references = reports["supervised"]["references"]
    return {
        "base_model": figures(references["base_model"]),
        "supervised": figures(supervised[-1]),
        "diff_tuning": figures(reports["diff_tuning"]["evaluations"][-1]),
        "supervised_at_equal_target_images": figures(supervised[0]),
        "real_vs_real": figures(references["real_vs_real"]),
        "autoencoder_floor": figures(references["autoencoder_floor"]),
    }


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-steps", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=Path("build/demo-seeds"))
    args = parser.parse_args()
    found = [rows(run_seed(seed, args.folder / str(seed), args.max_steps)) for seed in args.seeds]
    table = {name: {f: spread([row[name][f] for row in found]) for f in FIGURES} for name in found[0]}
    print(json.dumps({"seeds": args.seeds, "rows": table}))


if __name__ == "__main__":
    main()
