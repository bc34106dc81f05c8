from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError
from scipy import stats

from difftune_core.channel import ConsoleHooks
from difftune_core.config.comparison import ComparisonConfig, MissingRun
from difftune_core.evaluate.comparison.build import compare_runs
from difftune_core.evaluate.comparison.runs import discovered, load_runs
from difftune_core.hooks import TaskError

AddRun = Callable[..., Path]
FIDS = {"plain": [[30.0, 12.0], [31.0, 13.0], [29.0, 11.5]], "diff": [[33.0, 17.0], [32.0, 16.5], [35.0, 17.5]]}


@pytest.fixture
def runs(tmp_path: Path, add_run: AddRun) -> Path:
    """Two methods, three seeds; the second sees half as many target images."""
    for method, by_seed in FIDS.items():
        for seed, fids in enumerate(by_seed):
            add_run(method, seed, fids, share=0.5 if method == "diff" else 1.0)
    return tmp_path / "runs"


def compared(config: ComparisonConfig, data: Path) -> tuple[dict[str, Any], str]:
    out = data.parent / "out"
    out.mkdir(exist_ok=True)
    compare_runs(config, data, out, ConsoleHooks())
    return json.loads((out / "comparison.json").read_text()), (out / "comparison.html").read_text()


def both(seeds: int = 3, **fields: Any) -> ComparisonConfig:
    return ComparisonConfig(methods=["plain", "diff"], seeds=list(range(seeds)), **fields)


def test_means_and_tests_at_equal_steps(runs: Path) -> None:
    found, _ = compared(both(), runs)
    fid = found["figures"]["fid"]
    ends = {method: [fids[-1] for fids in by_seed] for method, by_seed in FIDS.items()}
    assert fid["methods"]["plain"]["mean"] == pytest.approx(sum(ends["plain"]) / 3)
    assert fid["methods"]["plain"]["values"] == {"0": 12.0, "1": 13.0, "2": 11.5}
    (pair,) = fid["pairs"]
    assert (pair["first"], pair["second"], pair["seeds"]) == ("plain", "diff", [0, 1, 2])
    wanted = stats.ttest_rel(ends["diff"], ends["plain"])
    assert pair["p_t"] == pair["p_t_holm"] == pytest.approx(wanted.pvalue)
    assert (pair["p_sign_flip"], pair["smallest_p"]) == (0.25, 0.25)
    assert (found["paired_seeds"], found["schema_version"]) == ([0, 1, 2], 1)


def test_at_equal_target_images_the_faster_method_is_taken_earlier(runs: Path) -> None:
    """20 steps at half the images are 10 steps at all of them."""
    found, page = compared(both(), runs)
    (pair,) = found["figures"]["fid"]["equal_target_images"]
    assert (pair["steps"], pair["target_images"]) == ([10, 20], [80, 80])
    assert pair["difference"] == pytest.approx(((17 - 30) + (16.5 - 31) + (17.5 - 29)) / 3)
    assert "step 20 (80 images) against step 10 (80 images)" in page


def test_curves_go_from_step_to_step_whichever_run_was_first_to_have_one(runs: Path) -> None:
    path = runs / "plain" / "0" / "report.json"
    report = json.loads(path.read_text())
    report["evaluations"] = report["evaluations"][1:]
    report["curves"]["target_loss"] = [[20, 0.5]]
    path.write_text(json.dumps(report))
    found, _ = compared(both(), runs)
    for method in ("plain", "diff"):
        assert [entry["step"] for entry in found["curves"]["fid"][method]] == [10, 20]
    assert [entry["n"] for entry in found["curves"]["fid"]["plain"]] == [2, 3]
    assert found["training"]["target_loss"]["plain"] == [[10, 0.1], [20, pytest.approx((0.5 + 0.05 + 0.05) / 3)]]
    assert [run["evaluation"] for run in found["runs"][:1]] == report["evaluations"], "nothing is added to it"


def test_where_no_evaluation_is_near_enough_the_page_says_so(tmp_path: Path, add_run: AddRun) -> None:
    for seed in range(2):
        add_run("plain", seed, [12.0 + seed])
        add_run("diff", seed, [17.0 + seed], share=0.5)
    found, page = compared(both(2), tmp_path / "runs")
    assert found["figures"]["fid"]["equal_target_images"] == []
    assert found["equal_target_images"][0]["steps"] is None
    assert "no evaluations near enough (nearest: 80 and 40 images)" in page


def test_equal_shares_need_no_second_table(tmp_path: Path, add_run: AddRun) -> None:
    for method in ("plain", "other"):
        add_run(method, 0, [20.0, 12.0])
    found, page = compared(discovered(tmp_path / "runs"), tmp_path / "runs")
    assert found["equal_target_images"] == []
    assert "At equal target images" not in page


def test_one_seed_says_that_nothing_is_tested(tmp_path: Path, add_run: AddRun) -> None:
    add_run("plain", 4, [12.0])
    add_run("diff", 4, [17.0])
    found, page = compared(ComparisonConfig(methods=["plain", "diff"], seeds=[4]), tmp_path / "runs")
    (pair,) = found["figures"]["fid"]["pairs"]
    assert (pair["difference"], pair["interval"], pair["p_t"], pair["p_sign_flip"]) == (5.0, None, None, None)
    assert "no test" in page
    assert any("nothing is tested" in note for note in found["notes"])


def test_holm_is_over_the_pairs_of_a_figure(tmp_path: Path, add_run: AddRun) -> None:
    for seed in range(4):
        for number, method in enumerate("abc"):
            add_run(method, seed, [10.0 + number + 0.1 * seed * number])
    found, _ = compared(ComparisonConfig(methods=["a", "b", "c"], seeds=[0, 1, 2, 3]), tmp_path / "runs")
    pairs = found["figures"]["fid"]["pairs"]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair["p_sign_flip"] for pair in pairs] == [0.125] * 3
    assert [pair["p_sign_flip_holm"] for pair in pairs] == [0.375] * 3


def test_missing_runs_are_named_and_the_rest_is_compared(runs: Path) -> None:
    (runs / "diff" / "1" / "report.json").unlink()
    reason = MissingRun(method="plain", seed=3, reason="diverged at step 7")
    config = ComparisonConfig(methods=["plain", "diff"], seeds=[0, 1, 2, 3], missing=(reason,))
    found, page = compared(config, runs)
    assert [(run["method"], run["seed"]) for run in found["missing"]] == [("plain", 3), ("diff", 1), ("diff", 3)]
    assert "plain, seed 3: diverged at step 7" in page
    assert "3 of 8 runs are missing" in page
    assert found["figures"]["fid"]["pairs"][0]["seeds"] == [0, 2]
    assert found["figures"]["fid"]["methods"]["plain"]["n"] == 3


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("recipe__feature_extractor_digest", "other", "recipe.feature_extractor_digest"),
        ("recipe__num_generated", 99, "recipe.num_generated"),
        ("recipe__sampling__guidance_scale", 2.0, "recipe.sampling.guidance_scale"),
        ("recipe__sampling__sampler", "ddpm", "recipe.sampling.sampler"),
        ("recipe__reference_set_digest", "other", "recipe.reference_set_digest"),
        ("model__digest", "other", "model.digest"),
        ("dataset__digest", "other", "dataset.digest"),
        ("job__control", {"condition": "sketch"}, "control.condition"),
    ],
)
def test_figures_that_were_made_differently_are_refused(
    tmp_path: Path, add_run: AddRun, field: str, value: object, named: str
) -> None:
    for seed in (0, 1):
        add_run("plain", seed, [12.0])
    add_run("diff", 0, [17.0])
    add_run("diff", 1, [17.0], **{field: value})
    with pytest.raises(TaskError, match=re.escape(named)) as caught:
        load_runs(both(2), tmp_path / "runs")
    assert (caught.value.code, caught.value.param) == ("recipes_differ", named)


def test_held_out_images_may_differ_between_seeds(tmp_path: Path, add_run: AddRun) -> None:
    for seed in (0, 1):
        for method in ("plain", "diff"):
            add_run(method, seed, [12.0 + seed], recipe__reference_set_digest=f"of seed {seed}")
    found, _ = compared(both(2), tmp_path / "runs")
    assert any("differ between seeds" in note for note in found["notes"])


def test_unequal_budgets_are_told(tmp_path: Path, add_run: AddRun) -> None:
    add_run("plain", 0, [12.0, 11.0])
    add_run("diff", 0, [17.0])
    found, _ = compared(both(1), tmp_path / "runs")
    assert "The budgets are not equal: max steps of plain 20, diff 10." in found["notes"]


def test_nothing_in_common_is_too_few(tmp_path: Path, add_run: AddRun) -> None:
    add_run("plain", 0, [12.0])
    add_run("diff", 1, [17.0])
    with pytest.raises(TaskError) as caught:
        load_runs(both(2), tmp_path / "runs")
    assert caught.value.code == "too_few_runs"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"evaluations": [], "recipe": {}}', b'{"evaluations": [1]}'])
def test_a_damaged_report_is_named(runs: Path, content: bytes) -> None:
    (runs / "diff" / "2" / "report.json").write_bytes(content)
    with pytest.raises(TaskError, match=r"diff/2/report\.json") as caught:
        load_runs(both(), runs)
    assert caught.value.code == "damaged_report"


def test_figures_that_a_run_lacks_are_left_out(tmp_path: Path, add_run: AddRun) -> None:
    for seed in (0, 1):
        add_run("plain", seed, [12.0 + seed])
        folder = add_run("diff", seed, [17.0 + seed])
    report = json.loads((folder / "report.json").read_text())
    report["evaluations"][0] |= {"fid": None, "warnings": ["3 images are too few."]}
    (folder / "report.json").write_text(json.dumps(report))
    found, page = compared(both(2), tmp_path / "runs")
    assert found["figures"]["fid"]["pairs"][0]["seeds"] == [0]
    assert found["figures"]["kid"]["pairs"][0]["seeds"] == [0, 1]
    assert "3 images are too few." in page


def test_other_guidances_are_figures_of_their_own(tmp_path: Path, add_run: AddRun) -> None:
    for method, fid in (("plain", 20.0), ("diff", 14.0)):
        folder = add_run(method, 0, [12.0])
        report = json.loads((folder / "report.json").read_text())
        report["evaluations"][-1]["other_guidance"] = {"none": {"fid": fid}, "domain": {"fid": fid / 2}}
        (folder / "report.json").write_text(json.dumps(report))
    found, page = compared(both(1), tmp_path / "runs")
    assert found["figures"]["fid_none"]["pairs"][0]["difference"] == -6.0
    assert found["figures"]["fid_domain"]["methods"]["diff"]["mean"] == 7.0
    assert "FID, no guidance" in page


def test_further_figures_are_compared_where_they_were_measured(tmp_path: Path, add_run: AddRun) -> None:
    for method, value in (("plain", 0.5), ("diff", 0.75)):
        folder = add_run(method, 0, [12.0], recipe__other_feature_extractors={"dinov2": "digest"})
        report = json.loads((folder / "report.json").read_text())
        report["evaluations"][-1] |= {"recall": value, "fd_dinov2": 100 * value, "fd_dinov2_se": 1.0}
        (folder / "report.json").write_text(json.dumps(report))
    found, page = compared(both(1), tmp_path / "runs")
    assert found["figures"]["recall"]["pairs"][0]["difference"] == 0.25
    assert found["figures"]["fd_dinov2"]["pairs"][0]["difference"] == 25.0
    assert "fd_dinov2_se" not in found["figures"]
    assert "precision" not in found["figures"]
    assert "Recall (higher is better)" in page


def test_the_delivered_checkpoint_is_what_counts(tmp_path: Path, add_run: AddRun) -> None:
    add_run("plain", 0, [12.0, 15.0], delivered_step=10)
    add_run("diff", 0, [17.0, 16.0], delivered_step=20)
    found, _ = compared(both(1), tmp_path / "runs")
    assert found["figures"]["fid"]["pairs"][0]["difference"] == 4.0
    assert any("not all results are of the same step" in note.lower() for note in found["notes"])


def test_the_page_needs_no_network_and_no_script(runs: Path) -> None:
    _, page = compared(both(), runs)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    assert page.count('class="band') > 0
    assert page.count("data:image/webp") == 2


def test_grids_lie_side_by_side(runs: Path) -> None:
    compared(both(), runs)
    with Image.open(runs.parent / "out" / "comparison.png") as grid, Image.open(runs / "diff/0/samples.png") as one:
        assert grid.width > 2 * one.width
        assert grid.height > one.height


def test_without_samples_there_is_no_grid(tmp_path: Path, add_run: AddRun) -> None:
    for method in ("plain", "diff"):
        add_run(method, 0, [12.0], samples=False)
    _, page = compared(both(1), tmp_path / "runs")
    assert "Images side by side" not in page
    assert not (tmp_path / "out" / "comparison.png").exists()


def test_names_are_escaped(tmp_path: Path, add_run: AddRun) -> None:
    add_run("plain", 0, [12.0], model__id="<b>bold</b>")
    add_run("diff", 0, [12.0])
    _, page = compared(both(1), tmp_path / "runs")
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page


@pytest.mark.parametrize(
    "fields",
    [
        {"methods": ["a"], "seeds": [0]},
        {"methods": ["a", "a"], "seeds": [0]},
        {"methods": ["a", "b"], "seeds": [0, 0]},
        {"methods": ["a", "../b"], "seeds": [0]},
        {"methods": ["a", "b"], "seeds": []},
        {"methods": ["a", "b"], "seeds": list(range(21))},
    ],
)
def test_bad_configs_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ComparisonConfig.model_validate_json(json.dumps(fields))


def test_by_hand_it_takes_what_is_there(runs: Path) -> None:
    out = runs.parent / "joint"
    command = [sys.executable, "-m", "difftune_core", "compare", "--data", str(runs), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "comparison.json").read_text())["seeds"] == [0, 1, 2]
    (runs / "diff").rename(runs.parent / "elsewhere")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "too_few_runs" in again.stderr
    assert "plain" in again.stderr


def test_it_needs_no_torch() -> None:
    code = "import sys, difftune_core.evaluate.comparison.build as _; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
