"""A command of the core as a process: what it tells of, when, and what memory it holds meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

_LOOK_S = 0.02
_KIB = 1024
_RESET_PEAK = "5"  # of /proc/PID/clear_refs


@dataclass
class Watched:
    """What became of a command."""

    peak_bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Bytes of the most memory held, pages of mapped files among it, by phase."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds by phase."""
    step_times: list[tuple[int, float]] = field(default_factory=list)
    """Steps that were told of, and when."""
    outcome: dict[str, Any] = field(default_factory=dict)
    pid: int = 0

    def step_seconds(self) -> float:
        """Seconds of a step: the least between two that were told of, since others at work on the machine only add."""
        pairs = pairwise(self.step_times)
        return min((later - earlier) / (step - before) for (before, earlier), (step, later) in pairs)


@contextmanager
def running(arguments: Sequence[str | Path], threads: int) -> Iterator[Watched]:
    """Run `python -m difftune_core` with these arguments; it ends with the block, which may look at it meanwhile."""
    events, told = os.pipe()
    ordered, orders = os.pipe()
    pipes = ["--events-fd", str(told), "--commands-fd", str(ordered)]
    command = [sys.executable, "-m", "difftune_core", *map(str, arguments), *pipes]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, pass_fds=(told, ordered), env=environment)
    for descriptor in (told, ordered):
        os.close(descriptor)
    watched = Watched(pid=process.pid)
    thread = threading.Thread(target=_listen, args=(events, watched), daemon=True)
    thread.start()
    try:
        yield watched
        process.wait()
        thread.join()
    finally:
        process.kill()
        process.wait()
        os.close(orders)


def _listen(events: int, watched: Watched) -> None:
    phase, since = "starting", time.monotonic()
    with os.fdopen(events, encoding="utf-8") as lines:
        for line in lines:
            event, now = json.loads(line), time.monotonic()
            if event["type"] == "phase":
                _note(watched, phase, now - since)
                phase, since = event["phase"], now
            elif event["type"] == "metrics" and "train_loss" in event["values"]:
                watched.step_times.append((event["step"], now))
            elif event["type"] == "outcome":
                _note(watched, phase, now - since)
                watched.outcome = event


def _note(watched: Watched, phase: str, seconds: float) -> None:
    """Read the peak of the phase that has ended, and begin anew."""
    folder = Path("/proc") / str(watched.pid)
    with suppress(OSError, ValueError, IndexError):
        status = (folder / "status").read_text(encoding="ascii")
        peak = int(status.split("VmHWM:")[1].split()[0]) * _KIB
        watched.peak_bytes[phase] = max(watched.peak_bytes[phase], peak)
        (folder / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    watched.seconds[phase] += seconds
