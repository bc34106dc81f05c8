from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from difftune_core.drawing.charts import Rule, Series, line_chart
from difftune_core.drawing.numbers import log_ticks, number, tick_label, ticks, with_error
from difftune_core.drawing.scale import Mark, place
from difftune_core.evaluate.grids import image_grid
from difftune_core.evaluate.report import write_report
from tests.golden import assert_golden

VOID = {"meta", "img", "br", "line", "circle", "path"}
DIGEST = "c0ffee" * 10 + "abcd"


class Page(HTMLParser):
    """Checks that tags nest, and collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open[-1] != "style":
            self.texts.append(" ".join(data.split()))


def evaluation(step: int, fid: float) -> dict[str, Any]:
    return {
        "step": step, "fid": fid, "fid_se": fid / 40, "fid_se_method": "infinitesimal jackknife",
        "kid": fid / 100, "kid_se": fid / 5000, "kid_method": "whole set, jackknife over images",
        "num_real": 1597, "num_fake": 500, "seconds": 12.5,
        "forgetting": {"null_fid": 604.2, "retention_loss": 0.51,
                       "retention_loss_by_t": [0.5 / i for i in range(1, 11)]},
    }  # fmt: skip


def full() -> dict[str, Any]:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    return {
        "job": {"model": "tiny-dit", "seed": 7, "method": {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {
            "max_steps": 400, "batch_size": 64, "tau": 1.0}}}},
        "model": {"id": "tiny-dit", "digest": DIGEST, "num_parameters": 1_834_212},
        "dataset": {"class_names": ("0", "1"), "num_train": 200, "num_held_out": 1597, "digest": DIGEST},
        "curves": {"train_loss": [(10 * i, 1 / (i + 1)) for i in range(40)], "target_loss": [[10, 0.5]],
                   "retention_loss": [[10, 0.4]], "target_images": [[400, 12_800.0]]},
        "evaluations": [evaluation(200, 260.3), evaluation(400, 181.7)],
        "references": {"base_model": evaluation(0, 1320.4), "real_vs_real": {"fid": 9.31, "fid_se": 0.28},
                       "autoencoder_floor": {"fid": 41.3, "fid_se": 1.2}},
        "grids": [{"title": "Samples of the tuned model", "image": image_grid(pictures, 4, 2)}],
        "recipe": {"feature_extractor": "tiny-features", "feature_extractor_digest": DIGEST, "num_generated": 500,
                   "num_real": 1597, "reference_set_digest": DIGEST, "weights": "ema",
                   "sampling": {"sampler": "ddim", "num_inference_steps": 25, "guidance_scale": 1.5, "seed": 0}},
        "environment": {"torch": "2.13.0"},
        "notes": ["A sentence of its own."],
    }  # fmt: skip


def render(report: dict[str, Any], out: Path) -> tuple[Page, str, dict[str, Any]]:
    write_report(report, out)
    html = (out / "report.html").read_text()
    return Page(html), html, json.loads((out / "report.json").read_text())


def test_the_page_shows_result_references_and_how_they_were_made(tmp_path: Path) -> None:
    page, html, _ = render(full(), tmp_path)
    text = " ".join(page.texts)
    for wanted in (
        "Diff-Tuning of tiny-dit", "181.7 ± 4.5", "1,320 ± 33", "9.31 ± 0.28", "41.3 ± 1.2", "604.2", "12,800",
        "ddim with 25 steps, guidance 1.5, seed 0", "features of tiny-features (c0ffeec0ffee…)", "weights: ema",
        "500 generated against 1,597 held-out images", "infinitesimal jackknife", "A sentence of its own.", DIGEST,
        "400 steps of 64 images · 200 training images · 1,597 held out · 2 classes",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert len(html) < 500_000
    assert_golden("report_page.html", html, rounded=False)


def test_the_result_is_what_was_delivered(tmp_path: Path) -> None:
    report = full()
    report["delivered_step"], report["best"] = 200, {"metric": "kid", "step": 200, "value": 2.6}
    report["evaluations"][0] |= {"target_images": 6400, "l2_from_base": 0.25, "fid_infinity": None}
    report["evaluations"][0]["other_guidance"] = {"none": evaluation(200, 333.3), "domain": evaluation(200, 222.2)}
    report["evaluations"][0]["other_guidance"]["none"]["warnings"] = ["said of one guidance"]
    page, html, plain = render(report, tmp_path)
    text = " ".join(page.texts)
    for wanted in (
        "delivered: step 200 of 400, the best by kid", "After step 200, best kid, delivered", "260.3 ± 6.5", "6,400",
        "guidance none", "333.3 ± 8.3", "guidance domain", "222.2 ± 5.6", "said of one guidance",
        "L2 from base", "0.2500", "FID∞", "not measured: see the notes",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert html.count('<tr class="result">') == 1
    assert plain["evaluations"][0]["other_guidance"]["domain"]["fid"] == 222.2


def test_guidance_is_said_in_words(tmp_path: Path) -> None:
    report = full()
    for guidance, words in (("none", "25 steps, no guidance, seed"), ("domain", "25 steps, domain guidance 1.5, seed")):
        report["recipe"]["sampling"]["guidance"] = guidance
        assert words in " ".join(render(report, tmp_path)[0].texts)


def test_a_comparison_s_own_warning_reaches_the_page_once(tmp_path: Path) -> None:
    report = full()
    for entry in report["evaluations"]:
        entry["warnings"] = ["50 images for 64 features"]
    report["references"]["real_vs_real"]["warnings"] = ["KID needs at least 3 images on each side"]
    page, _, _ = render(report, tmp_path)
    assert page.texts.count("Every evaluation: 50 images for 64 features") == 1
    assert page.texts.count("Real against real: KID needs at least 3 images on each side") == 1


def test_a_distance_of_few_images_says_so_where_it_is_read(tmp_path: Path) -> None:
    report = full()
    report["evaluations"][1]["warnings"] = ["500 images for 640 features: no full covariance, FID is far too high"]
    report["references"]["real_vs_real"]["warnings"] = ["fd_x: 50 images for 64 features: no full covariance"]
    page, html, _ = render(report, tmp_path)
    tile = next(text for text in page.texts if text.startswith("too few images, see the notes"))
    assert "base model 1,320" in tile
    assert html.count("181.7 ± 4.5, too few images</td>") == 1
    assert html.count(", too few images") == 1, "no other distance is marked"


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page, html, _ = render(full(), tmp_path)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "form"})
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == 1
    assert all(source and source.startswith("data:image/") for source in sources)
    assert any("default-src 'none'" in (attrs.get("content") or "") for tag, attrs in page.tags if tag == "meta")


def test_images_in_the_page_are_the_given_ones(tmp_path: Path) -> None:
    page, _, _ = render(full(), tmp_path)
    source = next(attrs["src"] for tag, attrs in page.tags if tag == "img") or ""
    shown = Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGBA")
    given = full()["grids"][0]["image"]
    visible = np.asarray(given)[..., 3] > 0
    assert np.array_equal(np.asarray(shown)[visible], np.asarray(given)[visible])


def test_a_large_grid_from_a_file_does_not_swell_the_page(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2500, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((2500, 2000)).save(tmp_path / "grid.png", compress_level=0)
    _, html, plain = render({"grids": [{"title": "Large", "path_png": tmp_path / "grid.png"}]}, tmp_path)
    assert plain["grids"] == [{"title": "Large", "width": 2500, "height": 2000}]
    assert len(html) < (tmp_path / "grid.png").stat().st_size / 5
    with pytest.raises(ValueError, match="'Nothing' has neither image nor path_png"):
        write_report({"grids": [{"title": "Nothing"}]}, tmp_path)


def test_the_tiny_network_is_never_passed_off_as_inception(tmp_path: Path) -> None:
    assert "Not comparable with published FID" in render(full(), tmp_path)[1]
    other = full()
    other["recipe"]["feature_extractor"] = "inception-2015"
    assert "Not comparable with published FID" not in render(other, tmp_path)[1]


def test_names_of_users_are_text_never_markup(tmp_path: Path) -> None:
    report = full()
    evil = "<script>alert('1')</script>{{ 7*7 }}\"><img src=x onerror=y>"
    report["dataset"]["class_names"] = (evil,)
    report["model"]["id"] = evil
    report["curves"][evil] = [[1, 2.0], [2, 3.0]]
    report["notes"] = [evil]
    report["environment"] = {evil: evil}
    report["grids"][0]["title"] = evil
    page, _, _ = render(report, tmp_path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert len([1 for tag, _ in page.tags if tag == "img"]) == 1
    assert " ".join(page.texts).count(evil) >= 5


@pytest.mark.parametrize("missing", [*full(), "everything"])
def test_what_is_missing_is_left_out(tmp_path: Path, missing: str) -> None:
    report = {} if missing == "everything" else {key: value for key, value in full().items() if key != missing}
    page, _, plain = render(report, tmp_path)
    assert page.tags
    assert set(plain) == set(report) | {"grids", "schema_version"}


def test_the_json_holds_the_figures_as_given(tmp_path: Path) -> None:
    report = full()
    report["evaluations"][0] |= {"kid_se": math.nan, "fid": math.nan}
    report["curves"]["train_loss"][3] = (30, math.inf)
    report["environment"]["threads"] = np.int64(2)
    _, _, plain = render(report, tmp_path)
    assert plain["evaluations"][1] == report["evaluations"][1]
    assert plain["evaluations"][0]["kid_se"] is None
    assert plain["curves"]["train_loss"][3] == [30, None]
    assert plain["environment"]["threads"] == 2
    assert plain["recipe"] == report["recipe"]


@pytest.mark.parametrize(("last", "is_shown"), [(1e-3, False), (1e-4, True)])
def test_a_learning_rate_that_never_changes_has_no_chart(tmp_path: Path, last: float, is_shown: bool) -> None:
    report = full()
    report["curves"]["learning_rate"] = [(1, 1e-3), (2, last)]
    assert ("Learning rate" in render(report, tmp_path)[0].texts) == is_shown


def test_points_of_a_chart_are_where_their_values_are() -> None:
    chart = line_chart("c", [Series("a", [(0, 0.0), (5, 5.0), (10, 10.0)])], x_label="x", rules=[Rule("half", 5.0)])
    dots = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart.svg)]
    rule = re.search(r'class="rule r0" x1="[\d.]+" x2="[\d.]+" y1="([\d.]+)"', chart.svg)
    assert rule
    assert dots[1][0] == pytest.approx((dots[0][0] + dots[2][0]) / 2, abs=0.1)
    assert dots[1][1] == pytest.approx((dots[0][1] + dots[2][1]) / 2, abs=0.1) == float(rule[1])
    assert dots[0][1] > dots[1][1] > dots[2][1]
    assert chart.legend == [("s0", "a 10.00"), ("rule r0", "half 5.000")]
    left = re.search(r'class="rule r0" x1="([\d.]+)"', chart.svg)
    assert left
    assert {float(at) for at in re.findall(r'class="tick" x="([\d.]+)"', chart.svg)} == {float(left[1]) - 6}


def test_a_wide_spread_is_drawn_on_a_logarithmic_axis() -> None:
    chart = line_chart("c", [Series("a", [(0, 1.0), (1, 10.0), (2, 100.0)], [0.1, 1.0, 10.0])], x_label="x")
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', chart.svg)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert "logarithmic" in chart.note
    assert chart.svg.count('class="bar') == 3


@given(st.integers(31, 3000), st.booleans())
def test_long_curves_stay_small(n: int, broken: bool) -> None:
    points = [(float(i), math.nan if broken and i % 7 == 0 else 1 + math.sin(i)) for i in range(n)]
    chart = line_chart("c", [Series("a", points)], x_label="step")
    assert len(chart.svg) < 12_000
    assert "nan" not in chart.svg


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_inside(low: float, width: float) -> None:
    values = ticks(low, low + width)
    assert 1 <= len(values) <= 7
    assert all(low - 1e-6 * width <= v <= low + width * (1 + 1e-6) for v in values)


def test_numbers_are_written_for_people() -> None:
    assert [number(v) for v in (0, 12345, 1234.56, 0.012344, 1.5e-7, None, math.nan)] == [
        "0", "12,345", "1,235", "0.01234", "1.500e-07", "–", "–",
    ]  # fmt: skip
    assert [with_error(*pair) for pair in ((181.7, 5.5), (1320.4, 40.0), (0.71, 0.0351), (5.0, None))] == [
        "181.7 ± 5.5", "1,320 ± 40", "0.710 ± 0.035", "5.000",
    ]  # fmt: skip
    rounding = ((58.23, 8.7e-15), (0.0, 4e-17), (1e-9, 1e-17), (58.23, 0.0), (0.5, 2e-5))
    assert [with_error(*pair) for pair in rounding] == [
        "58.23", "0", "1.000e-09", "58.23", "0.5000 ± 2.0e-05",
    ]  # fmt: skip
    assert number(3e-17) == number(-3e-17) == "0"
    assert log_ticks(8, 1500) == [10, 100, 1000]
    assert [tick_label(v) for v in (0.1 + 0.2, 20_000.0, 5.0)] == ["0.3", "20k", "5"]


def test_the_scale_orders_and_places_its_marks() -> None:
    scale = place([Mark("base", 1000.0), Mark("run", 100.0, 5.0, is_result=True), Mark("floor", 10.0, 20.0)])
    assert scale
    assert [row.name for row in scale.rows] == ["floor", "run", "base"]
    first, middle, last = scale.rows
    assert middle.at == pytest.approx((first.at + last.at) / 2, abs=0.02)
    assert first.low == 0
    assert middle.low < middle.at < middle.high
    assert place([Mark("one", 3.0), Mark("zero", 0.0)]) is None
