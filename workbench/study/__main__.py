"""`python -m workbench.study`: run the rows of the plan that are missing, one after the other, on one thread.

Each row that ends is a line of `workbench/study/results/rows.jsonl` at once, with its seed, commit and setting; a later
call goes on with the next. `--status` says how many of the planned rows are done.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from difftune_core.hooks import TaskError
from workbench.study.plan import PLAN, Row

RECORDS = Path(__file__).parent / "results" / "rows.jsonl"


def records(path: Path = RECORDS) -> list[dict[str, Any]]:
    """Return what is kept of every finished row; a line that was cut off by a crash is none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [found for line in lines if (found := _read(line)) is not None]


def _read(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def missing(done: list[dict[str, Any]], plan: tuple[Row, ...] = PLAN) -> list[Row]:
    """Give the planned rows that have no record of their own setting, in the order of the plan."""
    kept: dict[str, list[dict[str, Any]]] = {}
    for record in done:
        kept.setdefault(str(record.get("row")), []).append(record)
    return [row for row in plan if not any(_is_of(record, row) for record in kept.get(row.name, []))]


def _is_of(record: dict[str, Any], row: Row) -> bool:
    """Return whether a record has a row's whole setting."""
    told = json.loads(json.dumps(row.told()))
    return all(record.get(name) == value for name, value in told.items())


def status(done: list[dict[str, Any]]) -> str:
    """Say of each study how many rows are done, and what CPU time they took."""
    waiting, lines = missing(done), []
    seconds = [record["cpu_seconds"] for record in done]
    for study in sorted({row.study for row in PLAN}):
        planned = [row for row in PLAN if row.study == study]
        left = [row for row in waiting if row.study == study]
        lines.append(f"{study}: {len(planned) - len(left)} of {len(planned)} rows done")
    lines.append(f"all: {len(PLAN) - len(waiting)} of {len(PLAN)} rows done")
    if seconds:
        spent = f"{min(seconds):.0f} to {max(seconds):.0f} s, {sum(seconds) / 3600:.2f} h in all"
        lines.append(f"CPU time of a row so far: {spent}")
    return "\n".join(lines)


def keep(record: dict[str, Any], path: Path = RECORDS) -> None:
    """Add a line to the results, at once on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if is_cut_off else "") + json.dumps(record, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Run what is missing, or say what is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--status", action="store_true", help="only say how many of the planned rows are done")
    parser.add_argument("--hours", type=float, default=float("inf"), help="start no row after this time")
    parser.add_argument("--nice", type=int, default=19, help="lower the priority by so much")
    parser.add_argument("--only", choices=sorted({row.study for row in PLAN}), help="rows of one study")
    parser.add_argument("--folder", type=Path, default=Path("build/study"), help="of inputs and caches")
    args = parser.parse_args()
    if args.status:
        print(status(records()))
        return
    os.nice(args.nice)
    args.folder.mkdir(parents=True, exist_ok=True)
    with (args.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # another one would run the same rows
        _run([row for row in missing(records()) if args.only in {None, row.study}], args)


def _run(rows: list[Row], args: argparse.Namespace) -> None:
    from workbench.study.rows import run_row  # loads torch, which `--status` does not need

    end = time.monotonic() + 3600 * args.hours
    for row in rows:
        if time.monotonic() >= end:
            return
        try:
            record = run_row(row, args.folder)
        except TaskError as error:  # as of one that diverged: the others go on, and the next call tries it again
            print(f"{row.name}: {error}", file=sys.stderr, flush=True)
            continue
        keep(record)
        print(f"{row.name}: {record['cpu_seconds']:.0f} s of CPU", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
