"""Steps of sudden convergence in a comparison, from reports made up for the purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difftune_core.channel import ConsoleHooks
from difftune_core.config.comparison import ComparisonConfig
from difftune_core.config.reports.comparison import SavedTold
from difftune_core.evaluate.comparison.build import compare_runs
from difftune_core.evaluate.comparison.convergence import _sentence
from difftune_core.hooks import TaskError

AddRun = Callable[..., Path]
STEPS: dict[str, list[int | None]] = {"plain": [100, 200, 300, None], "diff": [80, 100, None, 60]}


def _converged(step: int | None) -> dict[str, Any]:
    reason = "" if step is not None else "gradual"
    interval = None if step is None else [step, step]
    return {"step": step, "confidence": 0.99, "interval": interval, "jump": 0.1, "share": 0.6, "reason": reason}


@pytest.fixture
def compared(tmp_path: Path, add_run: AddRun) -> tuple[dict[str, Any], str]:
    for method, steps in STEPS.items():
        for seed, step in enumerate(steps):
            control = {"condition": "edge", "default_prompt": ""}
            add_run(method, seed, [20.0, 12.0 + seed], convergence=_converged(step), job__control=control)
    config = ComparisonConfig(methods=list(STEPS), seeds=[0, 1, 2, 3])
    compare_runs(config, tmp_path / "runs", tmp_path, ConsoleHooks())
    return json.loads((tmp_path / "comparison.json").read_text()), (tmp_path / "comparison.html").read_text()


def test_steps_are_paired_over_the_seeds_in_which_both_converged(compared: tuple[dict[str, Any], str]) -> None:
    found, _ = compared
    figure = found["figures"]["convergence_step"]
    assert (figure["methods"]["plain"]["mean"], figure["methods"]["plain"]["n"]) == (200, 3)
    assert figure["methods"]["diff"]["values"] == {"0": 80, "1": 100, "3": 60}
    (pair,) = figure["pairs"]
    assert (pair["seeds"], pair["difference"]) == ([0, 1], -60)
    (saved,) = found["steps_saved"]
    assert (saved["first"], saved["second"], saved["n"], saved["num_pairs"]) == ("plain", "diff", 2, 4)
    assert saved["mean"] == pytest.approx((0.2 + 0.5) / 2)


def test_the_page_shows_each_run_s_step_or_why_there_is_none(compared: tuple[dict[str, Any], str]) -> None:
    _, page = compared
    section = page[page.index("<h2>Sudden convergence</h2>") : page.index("<h2>Paired differences</h2>")]
    cells = [part.split("</td>")[0] for part in section.partition("<tbody>")[2].split("<td>")[1:]]
    assert cells == ["3 of 4", "100", "200", "300", "a rise, no jump", "3 of 4", "80", "100", "a rise, no jump", "60"]
    assert "diff takes 35% \u00b1 21% (standard deviation over seeds) fewer steps than plain: 2 of 4 pairs" in section


def test_steps_to_equal_scores_need_no_sudden_convergence(tmp_path: Path, add_run: AddRun) -> None:
    """The second method reaches every score of the first in half of its steps."""
    rise = {"plain": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], "diff": [0.2, 0.4, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9]}
    for method, scores in rise.items():
        for seed in (0, 1):
            control = {"condition": "edge", "default_prompt": ""}
            folder = add_run(method, seed, [20.0] * 8, convergence=_converged(None), job__control=control)
            report = json.loads((folder / "report.json").read_text())
            for entry, score in zip(report["evaluations"], scores, strict=True):
                entry["ssim"] = score
            (folder / "report.json").write_text(json.dumps(report))
    compare_runs(ComparisonConfig(methods=list(rise), seeds=[0, 1]), tmp_path / "runs", tmp_path, ConsoleHooks())
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["steps_saved"] == []
    (saved,) = found["steps_saved_to_equal_scores"]
    assert (saved["first"], saved["second"], saved["n"], saved["num_pairs"]) == ("plain", "diff", 2, 2)
    assert saved["mean"] == pytest.approx(0.5, abs=0.01)
    page = (tmp_path / "comparison.html").read_text()
    assert (
        "To equal scores, diff takes 50% \u00b1 0% (standard deviation over seeds) fewer steps than plain: 2 of 2"
        in page
    )


def test_evaluations_on_the_way_need_no_fid(tmp_path: Path, add_run: AddRun) -> None:
    """A ControlNet's images are judged by FID at the end alone; without it there, a report is damaged."""
    for method, seed in (("plain", 0), ("diff", 0)):
        folder = add_run(method, seed, [20.0, 12.0], convergence=_converged(None), job__control={"condition": "edge"})
        report = json.loads((folder / "report.json").read_text())
        early = report["evaluations"][0]
        report["evaluations"][0] = {"step": early["step"], "ssim": 0.5, "target_images": early["target_images"]}
        report["evaluations"][1]["ssim"] = 0.7
        (folder / "report.json").write_text(json.dumps(report))
    config = ComparisonConfig(methods=["plain", "diff"], seeds=[0])
    compare_runs(config, tmp_path / "runs", tmp_path, ConsoleHooks())
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert [entry["mean"] for entry in found["curves"]["ssim"]["plain"]] == [0.5, 0.7]
    assert [entry["step"] for entry in found["curves"]["fid"]["plain"]] == [20]
    assert "convergence_step" not in found["figures"]
    del report["evaluations"][1]["fid"]
    (folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(TaskError, match=r"diff/0/report\.json is no whole report"):
        compare_runs(config, tmp_path / "runs", tmp_path, ConsoleHooks())


@pytest.mark.parametrize(("share", "told"), [(0.25, "25% fewer"), (0.0, "0% fewer"), (-0.5, "50% more")])
def test_who_saves_no_steps_takes_more(share: float, told: str) -> None:
    pair = SavedTold(first="plain", second="diff", num_pairs=2, n=1, mean=share, sd=None)
    assert _sentence(pair) == f"diff takes {told} steps than plain: 1 of 2 pairs of runs"
