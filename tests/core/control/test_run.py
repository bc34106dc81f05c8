from __future__ import annotations

import json
from typing import Any

from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns


def test_a_run_leaves_report_export_and_checkpoints(toy_runs: ToyRuns) -> None:
    hooks = RecordingHooks()
    config = toy_runs.config(evaluation={"every_steps": 2})
    outcome = toy_runs.train(config, "whole", hooks)
    assert outcome.code == "succeeded", outcome
    report: dict[str, Any] = json.loads((toy_runs.root / "whole" / "report.json").read_text())
    assert [entry["step"] for entry in report["evaluations"]] == [2, 4]
