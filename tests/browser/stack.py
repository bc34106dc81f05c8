"""An embedded stack of this tree, in a folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_S = 180
_STOP_S = 60


@dataclass(frozen=True)
class Stack:
    """Where it answers, and the key to it."""

    url: str
    key: str


@contextmanager
def embedded(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Start API, worker and sweep, and stop them in the end.

    Args:
        folder: of its data.
        settings: further variables of its environment.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cli", "up", "--data-dir", str(folder), "--port", str(port), "--slots", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(settings or {})}
    with (folder / "up.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment) as up:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, up)
            yield Stack(url, (folder / "api-key").read_text().strip())
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(_STOP_S)


def _wait(url: str, up: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and up.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz") as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit("the service did not start; see up.log")
