"""A short storm; `make storm` is the long one, and its `--sabotage` shows that each of its checks can fail."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.storm.__main__ import storm


def test_a_short_storm_loses_nothing_and_does_nothing_twice(postgres: str, redis: str) -> None:
    """Both servers are the storm's own; that they are asked for here skips it where they are not installed."""
    del postgres, redis
    with tempfile.TemporaryDirectory() as folder:  # PostgreSQL's user must reach it, which it cannot in pytest's own
        found = storm(Path(folder), jobs=30, faults=30, seed=0, sabotage=None)
    wrong = {name: found[name] for name in ("lost", "duplicated", "stuck", "stale_writes", "disturbed")}
    assert set(wrong.values()) == {0}, wrong
    assert (found["jobs"], found["faults"], found["ok"]) == (30, 30, True)
