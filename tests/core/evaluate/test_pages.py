"""What every page of the reports owes its readers: whose it is, names at rows and columns, tables within reach."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftune_core.config.about import About
from difftune_core.config.comparison import ComparisonConfig
from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.config.recipe_rules import idle
from difftune_core.config.reports.chain import ChainReport
from difftune_core.config.reports.evaluation import Judged
from difftune_core.config.reports.run import Recipe
from difftune_core.evaluate.comparison.build import compare_runs
from difftune_core.evaluate.grids import by_class, image_grid, scale_for
from difftune_core.evaluate.report import write_report
from difftune_core.evaluate.report.chain import chain_page
from difftune_core.evaluate.report.heading import heading
from difftune_core.evaluate.report.pictured import one_a_column
from difftune_core.evaluate.report.view import how_made
from tests.core.conftest import RecordingHooks
from tests.core.evaluate.comparison.conftest import make_report, write_run

ABOUT = About(id="ftjob_1", name="<flowers>", created_at=1_796_037_708, data="a.zip", validation="b.zip")
KNOWN = ABOUT.model_dump(exclude_defaults=True)


def points() -> list[dict[str, Any]]:
    common = {"fid": 1.0, "fid_se": 0.1, "kid": 0.1, "kid_se": 0.1, "base_steps": 0}
    return [{"fraction": fraction, **common} for fraction in (0.0, 1.0)]


def job_page(out: Path, about: dict[str, Any]) -> str:
    grid = image_grid(np.zeros((4, 2, 2, 3), np.uint8), 2)
    grids = [{"title": "Samples", "image": grid, "columns": ["one", "two"], "rows": ["up", "down"], "note": "a note"}]
    write_report({**make_report([12.0, 10.0]), "about": about, "grids": grids}, out)
    return (out / "report.html").read_text(encoding="utf-8")


def comparison_page(out: Path, about: dict[str, Any]) -> str:
    for method in ("plain", "diff"):
        write_run(out / "runs", method, 0, make_report([12.0, 10.0]))
    config = ComparisonConfig(methods=["plain", "diff"], seeds=[0])
    compare_runs(config, out / "runs", out, RecordingHooks(), About.model_validate(about))
    return (out / "comparison.html").read_text(encoding="utf-8")


def analysis_page(_out: Path, about: dict[str, Any]) -> str:
    minimum = {"fraction": 0.0, "fid": 1.0, "fid_change": 0.0, "fid_change_interval": (0, 0), "is_below_tuned": False}
    tuned = {"name": "a", "step": 4, "digest": "d", "points": points(), "minimum": {**minimum, "worse_from": None}}
    result = {"about": about, "base_model": {"id": "tiny-dit"}, "class_names": ["one", "two", "three"]}
    result |= {"fractions": [0.0, 1.0], "recipe": {"feature_extractor": "f", "num_generated": 2, "num_real": 2}}
    result |= {"comparable_with_published": True, "checkpoints": [tuned], "environment": {}}
    return chain_page(ChainReport.model_validate(result), {"a": image_grid(np.zeros((4, 2, 2, 3), np.uint8), 2)})


PAGES = pytest.mark.parametrize("page", [job_page, comparison_page, analysis_page])


@PAGES
def test_a_page_says_whose_it_is_in_its_title_and_head(page: Any, tmp_path: Path) -> None:
    html = page(tmp_path, KNOWN)
    title = html.partition("<title>")[2].partition("</title>")[0]
    assert title.startswith("&lt;flowers&gt;: ")
    assert title.endswith(" (ftjob_1)")
    head = html.partition("<header>")[2].partition("</header>")[0]
    assert "ftjob_1 · submitted 30 November 2026, 11:21 UTC · data a.zip · held out b.zip" in head


@PAGES
def test_a_page_made_by_hand_says_nothing_of_it(page: Any, tmp_path: Path) -> None:
    html = page(tmp_path, {})
    assert 'class="about"' not in html
    assert "submitted" not in html


@PAGES
def test_tables_that_may_be_cut_can_be_reached_and_have_a_name(page: Any, tmp_path: Path) -> None:
    html = page(tmp_path, KNOWN)
    regions = re.findall(r"<div class=\"scroll\"([^>]*)>", html)
    assert len(regions) == html.count("<table") > 0
    names = [re.search(r'aria-label="([^"]+)"', attributes) for attributes in regions]
    assert all('tabindex="0"' in attributes and 'role="region"' in attributes for attributes in regions)
    assert len({name[1] for name in names if name}) == len(regions)
    assert not re.search(r"<th[^>]*></th>", html)


def test_rows_and_columns_of_images_are_named(tmp_path: Path) -> None:
    html = job_page(tmp_path, {})
    assert [name in html for name in (">one</span>", ">two</span>", ">up</span>", ">down</span>", "a note")] == [
        True
    ] * 5


def test_where_not_every_class_is_pictured_the_page_says_so(tmp_path: Path) -> None:
    assert one_a_column(12) == "one class a column"
    assert one_a_column(100) == "one class a column; the first 12 of 100 classes"
    assert "the first 2 of 3 classes" in analysis_page(tmp_path, {})


def test_a_class_with_fewer_images_leaves_its_places_open() -> None:
    images = np.full((4, 2, 2, 3), 200, np.uint8)
    grid = by_class(images, [1, 1, 1, 0], classes=3, rows=2)
    assert grid is not None
    alpha = np.asarray(grid.convert("RGBA"))[..., 3]
    shown = [[bool(alpha[3 * row, 3 * column]) for column in range(3)] for row in range(2)]
    assert shown == [[True, True, False], [False, True, False]]
    assert (np.asarray(grid.convert("RGBA"))[alpha > 0, :3] == 200).all(), "nothing black is drawn"
    one = by_class(images, [2, 2, 2, 2], classes=4, rows=8)
    assert one is not None
    assert one.size == (4 * 3 - 1, 4 * 3 - 1), "no more rows than are filled"
    assert by_class(images, [5, 5, 5, 5], classes=3, rows=2) is None


@pytest.mark.parametrize("columns", [1, 4, 12, 100])
def test_a_grid_fills_its_place_and_no_more(columns: int) -> None:
    scale = scale_for(columns, 32)
    assert 1 <= scale <= 4
    assert columns * 33 * scale <= 500 or scale == 1


def test_what_has_no_effect_in_a_recipe_is_not_shown(tmp_path: Path) -> None:
    def of(*, controlled: bool = False, **stated: Any) -> set[str]:
        return idle(DiffTuningHyperparameters(**stated).model_dump(), controlled=controlled)

    always = {"min_learning_rate", "recipe_settings"}  # the rate is constant, the recipe one of ours
    assert of() == {"retention_share", "retention_weight", "distillation_weight"} | always
    assert of(recipe="released") == {"distillation_weight", "components"} | always
    assert of(recipe="distillation") == {"retention_share", "retention_weight", "retention_set"} | always
    assert of(psi="snr") >= {"tau"}
    assert of(controlled=True) - of() == {"label_rows", "label_dropout"}, "a ControlNet has prompts"
    assert idle({"max_steps": 4}, controlled=False) == always
    report = make_report([12.0], method="diff_tuning")
    report["job"]["method"]["diff_tuning"]["hyperparameters"] |= DiffTuningHyperparameters().model_dump(mode="json")
    write_report(report, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<dt>recipe</dt>" in html
    assert "retention share" not in html


def test_the_moment_is_read_without_a_time_zone_of_the_machine() -> None:
    assert heading("x", {"created_at": 0}).told == ""
    assert heading("x", {"created_at": 86_400}).told == "submitted 2 January 1970, 00:00 UTC"


def test_ways_in_which_figures_were_made_are_told_in_one_order() -> None:
    ways = [f"way {number}" for number in range(9)]
    judged = [Judged.model_validate({"kid_method": way, "fid_se_method": way}) for way in reversed(ways)]
    told = how_made(Recipe(), judged)
    assert f"KID by {' and '.join(ways)}" in told
    assert f"errors of FID by {' and '.join(ways)}" in told
