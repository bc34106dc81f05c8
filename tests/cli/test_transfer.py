"""What is told of what takes long: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from cli import transfer


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_EVERY_S", 0.02)
    told = io.StringIO()
    with transfer.bars(Console(file=told, width=100)) as progress:
        task = progress.add_task("supervised: training", total=None)
        while "supervised: training (0 s)" not in told.getvalue():
            time.sleep(0.01)
        progress.update(task, completed=30, total=400)
        while "supervised: training, 30 of 400 (0 s)" not in told.getvalue():
            time.sleep(0.01)


def test_of_an_unknown_number_nothing_is_counted() -> None:
    told = io.StringIO()
    with transfer.bars(Console(file=told, width=100)) as progress:
        progress.add_task("job: queued", total=None)
    assert "?" not in told.getvalue()
