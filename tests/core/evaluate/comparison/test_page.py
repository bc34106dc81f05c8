"""What the page of a comparison says, and beside what it shows a figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from difftune_core.channel import ConsoleHooks
from difftune_core.config.comparison import ComparisonConfig
from difftune_core.evaluate.comparison.build import build, compare_runs
from difftune_core.evaluate.comparison.runs import load_runs
from difftune_core.evaluate.comparison.view import context
from tests.golden import assert_golden

AddRun = Callable[..., Path]
CONFIG = ComparisonConfig(methods=["plain", "diff"], seeds=[0])


def test_agreement_lies_between_base_model_and_autoencoder(tmp_path: Path, add_run: AddRun) -> None:
    for method, ssim in (("plain", 0.5), ("diff", 0.6)):
        folder = add_run(method, 0, [12.0])
        report = json.loads((folder / "report.json").read_text())
        report["evaluations"][-1]["ssim"] = ssim
        report["references"]["autoencoder_floor"] = {"fid": 3.0}
        for name, value in (("base_model", 0.1), ("real_vs_real", 1.0), ("autoencoder_floor", 0.9)):
            report["references"][name]["ssim"] = value
        (folder / "report.json").write_text(json.dumps(report))
    found = context(build(CONFIG, *load_runs(CONFIG, tmp_path / "runs")))
    beside = {strip.title: [row.name for row in strip.rows if row.is_reference] for strip in found["strips"]}
    assert beside["SSIM (higher is better)"] == ["Base model, not tuned", "Autoencoder alone"]
    assert beside["FID"] == ["Base model, not tuned", "Real against real"]


def test_a_distance_of_too_few_images_is_marked(tmp_path: Path, add_run: AddRun) -> None:
    for method in ("plain", "diff"):
        add_run(method, 0, [12.0])
    columns = context(build(CONFIG, *load_runs(CONFIG, tmp_path / "runs")))["columns"]
    assert not [column for column in columns if "too few" in column]
    path = tmp_path / "runs" / "diff" / "0" / "report.json"
    report = json.loads(path.read_text())
    report["evaluations"][-1]["warnings"] = ["50 images for 64 features: no full covariance, FID is far too high"]
    path.write_text(json.dumps(report))
    found = context(build(CONFIG, *load_runs(CONFIG, tmp_path / "runs")))
    assert [column for column in found["columns"] if "too few" in column] == ["FID, too few images: see the notes"]
    assert "FID, too few images: see the notes" in [strip.title for strip in found["strips"]]
    assert any("no full covariance" in note for note in found["notes"])


def test_what_no_method_has_is_no_common_setting(tmp_path: Path, add_run: AddRun) -> None:
    for method in ("plain", "diff"):
        add_run(method, 0, [12.0])
        path = tmp_path / "runs" / method / "0" / "report.json"
        report = json.loads(path.read_text())
        settings = next(v for k, v in report["job"]["method"].items() if k != "type")["hyperparameters"]
        settings["retention_set"] = {"prompt": None} if method == "diff" else None
        path.write_text(json.dumps(report))
    note = context(build(CONFIG, *load_runs(CONFIG, tmp_path / "runs")))["settings"]["note"]
    assert "batch size 8" in note
    assert "retention set" not in note


def test_weights_of_methods_may_be_averaged_or_not(tmp_path: Path, add_run: AddRun) -> None:
    """Reports said `ema` of both once; an old run can be compared with a new one."""
    add_run("plain", 0, [12.0])
    add_run("diff", 0, [17.0], recipe__weights="raw")
    (tmp_path / "out").mkdir()
    assert compare_runs(CONFIG, tmp_path / "runs", tmp_path / "out", ConsoleHooks()).code == "succeeded"


def test_a_comparison_of_two_methods_and_three_seeds_as_a_whole(tmp_path: Path, add_run: AddRun) -> None:
    fids = {"plain": [[30.0, 12.0], [31.0, 13.0], [29.0, 11.5]], "diff": [[33.0, 17.0], [32.0, 16.5], [35.0, 17.5]]}
    for method, by_seed in fids.items():
        for seed, values in enumerate(by_seed):
            add_run(method, seed, values, share=0.5 if method == "diff" else 1.0)
    config = CONFIG.model_copy(update={"seeds": [0, 1, 2]})
    compare_runs(config, tmp_path / "runs", tmp_path, ConsoleHooks())
    assert_golden("comparison.json", json.loads((tmp_path / "comparison.json").read_text()))
    assert_golden("comparison_page.html", (tmp_path / "comparison.html").read_text(), rounded=False)
