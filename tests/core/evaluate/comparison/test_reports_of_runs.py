"""What a comparison takes from the reports of its runs: their version, and what they say of their results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from difftune_core.channel import ConsoleHooks
from difftune_core.config.comparison import ComparisonConfig
from difftune_core.evaluate.comparison.build import compare_runs
from difftune_core.evaluate.comparison.runs import load_runs
from difftune_core.hooks import TaskError

AddRun = Callable[..., Path]
CONFIG = ComparisonConfig(methods=["plain", "diff"], seeds=[0])


def test_a_report_of_a_later_version_asks_for_an_upgrade(tmp_path: Path, add_run: AddRun) -> None:
    add_run("plain", 0, [12.0])
    add_run("diff", 0, [17.0], schema_version=2)
    with pytest.raises(TaskError, match=r"diff/0/report\.json is of schema version 2") as caught:
        load_runs(CONFIG, tmp_path / "runs")
    assert caught.value.code == "report_of_newer_version"


def test_what_a_run_falls_short_of_is_said_of_the_run(tmp_path: Path, add_run: AddRun) -> None:
    told = {"code": "delivered_worse", "message": "The delivered checkpoint is worse than step 10.", "metric": "fid"}
    add_run("plain", 0, [12.0])
    add_run("diff", 0, [17.0], shortcomings=[told])
    compare_runs(CONFIG, tmp_path / "runs", tmp_path, ConsoleHooks())
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["shortcomings"] == [{"method": "diff", "seed": 0, **told}]
    page = (tmp_path / "comparison.html").read_text()
    assert "diff, seed 0: The delivered checkpoint is worse than step 10." in page
