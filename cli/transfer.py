"""Bars that show how far something has come; where there is no terminal, a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from difftune.service import Heard

_WIDTH = 120  # where no terminal says how wide it is
_EVERY_S = 15.0
"""Seconds between two lines about one task where there is no terminal."""


class _Count(MofNCompleteColumn):
    """A column of a bar: how many are done of how many, once the latter is known."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total is not None else Text()


def told() -> Console:
    """Return the console of what is said beside a command's output: stderr."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """Show a bar for each task that is added, as long as the context lasts."""
    columns = (TextColumn("{task.description:34}"), BarColumn(), _Count(), TimeElapsedColumn())
    with _shown(console, columns, lambda number: f"{number:.0f}") as progress:
        yield progress


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
    with _shown(console, columns, lambda number: decimal(int(number))) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _shown(console: Console, columns: tuple[ProgressColumn, ...], unit: Callable[[float], str]) -> Iterator[Progress]:
    over = Event()
    with Progress(*columns, console=console) as progress:
        teller = Thread(target=_tell, args=(progress, unit, over), daemon=True)
        if not console.is_terminal:
            teller.start()
        try:
            yield progress
        finally:
            over.set()


def _tell(progress: Progress, unit: Callable[[float], str], over: Event) -> None:
    """Print how every unfinished task stands, again and again."""
    while not over.wait(_EVERY_S):
        for task in [task for task in progress.tasks if not task.finished]:
            count = "" if task.total is None else f", {unit(task.completed)} of {unit(task.total)}"
            elapsed = f"{task.elapsed or 0:.0f} s"
            progress.console.print(f"{task.description}{count} ({elapsed})", markup=False, highlight=False)
