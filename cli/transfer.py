"""Bars that show how far an upload or a download has come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cli.client import Heard

_WIDTH = 120  # where no terminal says how wide it is


def told() -> Console:
    """Return the console of what is said beside a command's output: stderr."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)


@contextmanager
def bar(console: Console, label: str) -> Iterator[Heard]:
    """Show a bar as long as the context lasts; it is fed by what is yielded."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
