"""`make mutants`: faults are put into the code one at a time; how many do the tests notice?

Prints one JSON line: `run`, `caught`, `survived` with places, `harmless` (faults that change nothing, with the reason),
`detection` among those that matter. What was tried is kept in the folder: the same command goes on where it ended.
`--again FILE`: of what an earlier commit tried (that `FILE`), what was not noticed then is tried in today's code.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.mutants.faults import Fault, named, sample
from tests.mutants.notes import Coverers
from tests.mutants.trials import Copy, Trial

_ROOT = Path(__file__).parents[2]
_HARMLESS = Path(__file__).with_name("harmless.toml")
_NOT_ASKED = (
    "tests/test_",
    "tests/compose",
    "tests/workbench/test_records",
    "tests/cli/test_up",
)  # of documents, of whole stacks
_ENOUGH = 0.9
_BUDGET_S = 30.0
_MORE_S = 120.0  # of other tests for a fault that the first did not notice
_PUBLISHED = "tests/api/test_published.py"  # notices every bound and default of what clients send and get
_HAS_PUBLISHED = ("api/", "difftune_core/config/")
_FEW = 20  # tests that run a line: there may be others, who use what it did at import
_IN_CONTROL = 200
_BASE_LIMIT_S = 60.0


def _files_of_tests(copies: int) -> list[list[str]]:
    """Share the files of tests out, the large ones first, so that each copy has about as much to look at."""
    found = sorted((_ROOT / "tests").rglob("test_*.py"), key=lambda path: path.stat().st_size, reverse=True)
    names = [path.relative_to(_ROOT).as_posix() for path in found]
    asked = [name for name in names if not name.startswith(_NOT_ASKED)]
    return [asked[index::copies] for index in range(copies)]


def _copies(folder: Path, count: int) -> list[Copy]:
    """Make the copies and look, where it was not done yet, which test runs which line."""
    copies = [Copy(_ROOT, folder / f"copy-{index}") for index in range(count)]
    looked = folder / "looked"
    if not looked.exists():
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda copy, files: copy.made().look(files), copies, _files_of_tests(count)))
        looked.touch()
    return copies


def _try_all(faults: list[Fault], copies: list[Copy], coverers: Coverers, kept: Path) -> dict[str, dict[str, Any]]:
    """Try every fault that is not among those kept; what comes is kept at once."""
    done = {row["place"]: row for row in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    for copy in copies:
        copy.check(sorted(coverers.seconds, key=coverers.seconds.__getitem__)[:_IN_CONTROL], _BASE_LIMIT_S)

    def tried(fault: Fault, tests: list[str]) -> Trial:
        limit_s = _BASE_LIMIT_S + 3 * sum(coverers.seconds[test] for test in tests)
        copy = free.get()
        try:
            return copy.trial(fault, tests, limit_s)
        finally:
            free.put(copy)

    def attempt(fault: Fault) -> None:
        trial, asked = Trial("unseen", 0.0, 0), list[str]()
        for tests in filter(None, _concerned(fault, coverers, asked)):
            trial = tried(fault, tests)
            asked += tests
            if trial.outcome != "survived":
                break
        row = {"place": fault.place, "line": fault.line, **asdict(trial)}
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        done[fault.place] = row
        print(f"{len(done)}: {trial.outcome} {fault.path}:{fault.line} {fault.kind}", file=sys.stderr)

    try:
        with ThreadPoolExecutor(len(copies)) as pool:
            list(pool.map(attempt, [fault for fault in faults if fault.place not in done]))
    finally:
        for copy in copies:
            copy.close()
    return {fault.place: done[fault.place] for fault in faults}


def _concerned(fault: Fault, coverers: Coverers, asked: Sequence[str]) -> Iterator[list[str]]:
    """Give the tests that may notice a fault, in groups: `asked` has those of the groups before."""
    path = fault.path
    yield coverers.of(path, fault.lines, budget_s=_BUDGET_S)
    yield [test for test in coverers.in_file(_PUBLISHED) if path.startswith(_HAS_PUBLISHED) and test not in asked]
    yield coverers.of(path, fault.lines, budget_s=_MORE_S, asked=asked)
    if len(asked) < _FEW:
        yield coverers.beside(path, budget_s=_BUDGET_S, asked=asked)


def _summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    harmless = tomllib.loads(_HARMLESS.read_text(encoding="utf-8")) if _HARMLESS.exists() else {}
    reasons = {fault["place"]: fault["reason"] for fault in harmless.get("fault", [])}
    missed = {place: row for place, row in rows.items() if row["outcome"] != "caught"}
    survived = [f"{row['line']}: {place} ({row['outcome']})" for place, row in missed.items() if place not in reasons]
    meaningful = len(rows) - (len(missed) - len(survived))
    detection = round((meaningful - len(survived)) / meaningful, 3) if meaningful else None
    return {
        "run": len(rows),
        "caught": len(rows) - len(missed),
        "survived": survived,
        "harmless": {place: reasons[place] for place in missed if place in reasons},
        "detection": detection,
        "ok": detection is not None and detection >= _ENOUGH,
    }


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--faults", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--folder", type=Path, default=_ROOT / "build" / "mutants", help="for copies and what was tried"
    )
    parser.add_argument("--again", type=Path, help="faults tried earlier; those that were missed are tried anew")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    folder = options.folder / commit.stdout.strip()
    copies = _copies(folder, options.processes)
    coverers = Coverers([copy.folder / "notes" for copy in copies])
    source = copies[0].folder  # whatever the working tree has become meanwhile
    before: dict[str, dict[str, Any]] = {}
    if options.again:
        before = {row["place"]: row for row in map(json.loads, options.again.read_text().splitlines())}
        missed = frozenset(place for place, row in before.items() if row["outcome"] != "caught")
        faults = named(source, missed)
        before = {place: row for place, row in before.items() if place not in missed}  # what is gone counts no more
    else:
        faults = sample(source, options.faults, options.seed)
    name = options.again.stem if options.again else f"seed-{options.seed}"
    rows = before | _try_all(faults, copies, coverers, folder / f"{name}.jsonl")
    summary = {"commit": commit.stdout.strip(), "seed": options.seed, **_summary(rows)}
    print(json.dumps(summary))
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
