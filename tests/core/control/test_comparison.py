"""Runs of ControlNets, each a whole one on the toy base model, and one report of them all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from difftune_core.config.comparison import ComparisonConfig
from difftune_core.evaluate.comparison.build import compare_runs
from difftune_core.hooks import TaskError
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns

pytestmark = pytest.mark.long
METHODS, SEEDS = ["supervised", "diff_tuning"], [3, 4]
EVALUATIONS = 8


@pytest.fixture(scope="module")
def runs(toy_runs: ToyRuns) -> Path:
    """`METHOD/SEED/`, as a worker lays out what it compares."""
    data = toy_runs.root / "compared"
    for method in METHODS:
        config = toy_runs.config(method, evaluation={"every_steps": 1}, max_steps=EVALUATIONS)
        for seed in SEEDS:
            out = f"run-{method}-{seed}"
            outcome = toy_runs.train(config.model_copy(update={"seed": seed}), out, RecordingHooks())
            assert outcome.code == "succeeded", outcome
            (data / method / str(seed)).mkdir(parents=True)
            for name in ("report.json", "samples.png"):
                shutil.copy(toy_runs.root / out / name, data / method / str(seed))
    return data


def test_methods_and_seeds_become_one_report(runs: Path, tmp_path: Path) -> None:
    hooks = RecordingHooks()
    outcome = compare_runs(ComparisonConfig(methods=METHODS, seeds=SEEDS), runs, tmp_path, hooks)
    assert outcome.code == "succeeded"
    found = json.loads((tmp_path / "comparison.json").read_text())
    reports = {(m, s): json.loads((runs / m / str(s) / "report.json").read_text()) for m in METHODS for s in SEEDS}
    assert (found["control"]["condition"], found["missing"], found["paired_seeds"]) == ("edge", [], SEEDS)
    ends = {key: report["evaluations"][-1] for key, report in reports.items()}
    for key in ("ssim", "fid"):
        for method in METHODS:
            spread = found["figures"][key]["methods"][method]
            assert spread["n"] == 2
            assert spread["mean"] == pytest.approx(sum(ends[method, seed][key] for seed in SEEDS) / 2)
        (pair,) = found["figures"][key]["pairs"]
        differences = [ends["diff_tuning", seed][key] - ends["supervised", seed][key] for seed in SEEDS]
        assert pair["difference"] == pytest.approx(sum(differences) / 2)
        assert pair["p_sign_flip"] is not None
    assert {"null_fid", "empty_control_mse", "retention_loss", "kid"} <= found["figures"].keys()
    assert found["figures"]["ssim"]["lower_is_better"] is False
    for method in METHODS:
        assert [entry["step"] for entry in found["curves"]["ssim"][method]] == list(range(1, EVALUATIONS + 1))
        for seed in SEEDS:
            assert found["convergence"][method][str(seed)] == reports[method, seed]["convergence"]
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    for said in ("SSIM (higher is better)", "Sudden convergence", "Forgetting", "condition edge", "an empty control"):
        assert said in page
    assert "null label" not in page
    kinds = [event.kind for event in hooks.events if event.type == "artifact"]
    assert kinds == ["report_json", "report_html", "samples"]


def test_runs_of_another_condition_are_refused(runs: Path, tmp_path: Path) -> None:
    data = tmp_path / "runs"
    shutil.copytree(runs, data)
    path = data / "diff_tuning" / "3" / "report.json"
    report = json.loads(path.read_text())
    report["job"]["control"]["condition"] = "sketch"
    path.write_text(json.dumps(report))
    with pytest.raises(TaskError, match=r"control\.condition is 'sketch' and 'edge'") as caught:
        compare_runs(ComparisonConfig(methods=METHODS, seeds=SEEDS), data, tmp_path, RecordingHooks())
    assert caught.value.code == "recipes_differ"
