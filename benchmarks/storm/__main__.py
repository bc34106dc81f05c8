"""`python -m benchmarks.storm`: hundreds of tiny jobs under hundreds of random faults; the last line is a JSON object.

PostgreSQL, Redis, the API, workers, trainers and sweeps are killed (-9) or frozen past the lease while jobs are
submitted over HTTP. Afterwards every acknowledged job must have its one right result. With `--sabotage NAME` a seeded
bug is put in, and the storm must fail; `--sabotage all` tries each.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from api.db import Database
from api.jobs.models import Job
from api.jobs.states import FINAL
from api.storage import open_store
from benchmarks.storm.checks import examined, figures
from benchmarks.storm.client import Users
from benchmarks.storm.cluster import StormCluster
from benchmarks.storm.nemesis import Nemesis
from benchmarks.storm.sabotage import BUGS

_BREATH_S = (0.3, 1.6)  # between two faults
_HEALED_S = 120.0


def storm(folder: Path, *, jobs: int, faults: int, seed: int, sabotage: str | None) -> dict[str, Any]:
    """Run one storm; return what was found."""
    began, rng = time.monotonic(), random.Random(seed)  # noqa: S311  # no secret
    cluster = StormCluster(folder, workers=3, sweeps=2, sabotage=sabotage)
    database = cluster.database
    try:
        cluster.start()
        nemesis = Nemesis(cluster, seed)
        rate = jobs / (faults * sum(_BREATH_S) / 2)
        users = Users(f"http://127.0.0.1:{cluster.port}", cluster.key, count=jobs, rate=rate, seed=seed)
        users.start()
        while len(nemesis.faults) < faults:
            nemesis.strike()
            time.sleep(rng.uniform(*_BREATH_S))
        nemesis.heal()
        users.join(_HEALED_S)
        _wait_until_final(database, jobs)
        found = examined(database, open_store(cluster.settings), users.acknowledged, nemesis.faults)
        if users.is_alive():
            found.lost.append("users are still waiting for an answer")
        elif users.refusal:
            found.lost.append(f"users gave up after {len(users.acknowledged)} jobs: {users.refusal}")
    finally:
        cluster.stop()
    for name in ("lost", "duplicated", "stuck", "stale_writes", "disturbed"):
        for line in getattr(found, name)[:10]:
            sys.stderr.write(f"{name}: {line}\n")
    counted = {"jobs": len(users.acknowledged), "faults": len(nemesis.faults), **figures(found)}
    more = {"seed": seed, "seconds": round(time.monotonic() - began), "by_kind": nemesis.counts, "ok": found.ok}
    return counted | more


def _wait_until_final(database: Database, jobs: int) -> None:
    deadline = time.monotonic() + _HEALED_S
    final = select(func.count()).select_from(Job).where(Job.status.in_(FINAL))
    while time.monotonic() < deadline:
        try:
            with database.read() as session:
                if (session.scalar(final) or 0) >= jobs:
                    return
        except SQLAlchemyError:
            pass
        time.sleep(0.5)


def _each_bug(arguments: argparse.Namespace) -> int:
    """Storms for each bug, each in a process of its own, until one fails; some bugs need luck in a short storm."""
    caught, storms = {}, 0
    for name in BUGS:
        for seed in range(arguments.seed, arguments.seed + arguments.tries):
            caught[name], said = _fails(name, arguments, seed)
            storms += 1
            sys.stderr.write(f"{name}, seed {seed}: {'caught' if caught[name] else 'NOT CAUGHT'} {said}\n")
            if caught[name]:
                break
    missed = [name for name, found in caught.items() if not found]
    print(json.dumps({"bugs": len(caught), "caught": sum(caught.values()), "missed": missed, "storms": storms}))
    return 1 if missed else 0


def _fails(name: str, arguments: argparse.Namespace, seed: int) -> tuple[bool, str]:
    """Return whether a storm with the bug runs to its end and says that something is wrong; its last words."""
    given = ["--jobs", str(arguments.jobs), "--faults", str(arguments.faults), "--seed", str(seed)]
    done = _completed([sys.executable, "-m", "benchmarks.storm", *given, "--sabotage", name])
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return done.returncode == 1 and last.startswith("{") and not json.loads(last)["ok"], last or done.stderr[-500:]


def _completed(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Do as `subprocess.run`, but ask a storm that is not waited for to its end to stop, so that it can clean up."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            stdout, stderr = child.communicate()
        finally:
            child.terminate()
    return subprocess.CompletedProcess(command, child.returncode, stdout, stderr)


def main() -> int:
    """The exit status is 0 if everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sabotage", choices=["all", *BUGS], help="put a seeded bug in: the storm must fail")
    parser.add_argument(
        "--tries", type=int, default=3, help="of --sabotage all: storms for a bug, each with a new seed"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left running
    if arguments.sabotage == "all":
        return _each_bug(arguments)
    with tempfile.TemporaryDirectory(prefix="difftune-storm-") as folder:
        result = storm(
            Path(folder),
            jobs=arguments.jobs,
            faults=arguments.faults,
            seed=arguments.seed,
            sabotage=arguments.sabotage,
        )
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
