"""The bars of jobs."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from cli import follow


@pytest.mark.parametrize("event", [{"type": "phase", "data": {"phase": "exporting"}}, {"type": "status"}], ids=str)
def test_what_begins_has_no_count_of_what_was_before(event: dict[str, Any]) -> None:
    progress = Progress(console=Console(quiet=True))
    bar = progress.add_task("job: training", total=None)
    follow._show({"type": "progress", "data": {"done": 3, "total": 120}}, "job", progress, bar)
    assert (progress.tasks[0].completed, progress.tasks[0].total) == (3, 120)
    follow._show({"data": {"status": "succeeded"}} | event, "job", progress, bar)
    assert (progress.tasks[0].completed, progress.tasks[0].total) == (0, None)
    assert progress.tasks[0].description in {"job: exporting", "job: succeeded"}
