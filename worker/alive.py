"""The sign of life that a health check reads: the age of a file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_INTERVAL_S = 2.0


def touch(path: Path | None) -> None:
    """Set the file's time to now; where none is wanted, or the disk is full, nothing."""
    if path is not None:
        with suppress(OSError):
            path.touch()


def show_life(path: Path | None, gets_on: Callable[[], bool], ended: threading.Event) -> None:
    """Touch the file from a thread of its own while the process gets on, until it has ended."""

    def watch() -> None:
        while not ended.wait(_INTERVAL_S):
            if gets_on():
                touch(path)

    if path is not None:
        touch(path)
        threading.Thread(target=watch, name="sign of life", daemon=True).start()
