"""The table of figures, and metrics that other distributions bring to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.figures import Figure, Metric, all_figures, find_figure, register, registry
from difftune_core.config.figures.figure import RESERVED
from difftune_core.config.figures.page import table
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.config.reports.run import RunReport
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig
from difftune_core.evaluate.compare import check_known, compare
from difftune_core.evaluate.comparison.measured import figures_in
from difftune_core.evaluate.comparison.runs import FinishedRun
from difftune_core.evaluate.folders import evaluate_folders
from difftune_core.evaluate.quality import quality
from difftune_core.evaluate.report.view import context
from difftune_core.evaluate.report.write import plain
from difftune_core.hooks import TaskError
from difftune_core.train.report import figures_event
from tests.core.distributions import documented
from tests.core.evaluate.test_report import full

WITH_SHARPNESS = {"metrics": ("fid", "sharpness"), "best_metric": "sharpness_gap"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))
    registry._installed.cache_clear()
    with documented("A metric", "my_metrics", tmp_path, monkeypatch) as site:
        yield site
    registry._installed.cache_clear()


def toy(**fields: object) -> Metric:
    figure = Figure(key="own", label="Own", meaning="Ours", better="lower")
    known = {"name": "own", "figures": (figure,), "needs": frozenset({"features"}), "compute": "json:loads"}
    return Metric(**{"measured": "", "error": "", "bias": "", **known, **fields})  # type: ignore[arg-type]  # a table


def test_no_two_figures_have_one_key_and_all_can_be_found() -> None:
    keys = [figure.key for figure in all_figures()]
    assert len(set(keys)) == len(keys)
    assert [find_figure(key) for key in keys] == list(all_figures())


def test_every_metric_that_can_be_asked_for_can_be_computed() -> None:
    check_known(list(registry.named_metrics()))


@pytest.mark.usefixtures("installed")
def test_what_is_installed_brings_its_metric_to_config_and_evaluation() -> None:
    config = EvaluationConfig.model_validate(WITH_SHARPNESS)
    schema = EvaluationConfig.model_json_schema()["properties"]
    assert "sharpness" in schema["metrics"]["items"]["enum"]
    assert "sharpness_gap" in schema["best_metric"]["pattern"]
    features = {"own": np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)}
    ramp = np.repeat(np.arange(4, dtype=np.uint8)[None, :, None, None], 8, axis=0).repeat(4, axis=2).repeat(3, axis=3)
    found = quality(features, features, config.metrics, images=(ramp, 3 * ramp))
    assert (found["sharpness_gap"], found["sharpness_gap_se"]) == (2, 0)
    assert found["sharpness_gap_se_method"] == "over images"
    one = {"own": features["own"][:1]}
    assert quality(features, one, config.metrics, images=(ramp, ramp[:1]))["fid"] is None


def test_a_child_process_knows_it_too_and_loads_no_torch(installed: Path) -> None:
    code = (
        "import sys, json; from difftune_core.config.figures import named_metrics;"
        "print(json.dumps([list(named_metrics()), 'torch' in sys.modules or 'numpy' in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    names, is_heavy = json.loads(done.stdout)
    assert names[-1] == "sharpness"
    assert not is_heavy


@pytest.mark.usefixtures("installed")
def test_its_figure_is_on_the_pages_and_among_a_job_s_metrics() -> None:
    report = plain({**full(), "grids": []})
    for entry in report["evaluations"]:
        entry["sharpness_gap"] = 7.0
    page = context(RunReport.model_validate(report))
    assert "Sharpness gap" in [name for name, _ in page["glossary"]]
    assert "Sharpness gap" in [tile.label for tile in page["tiles"]]
    assert "`sharpness_gap`" in table()
    assert figures_event(Evaluation.model_validate(report["evaluations"][0])).values["eval_sharpness_gap"] == 7
    run = FinishedRun("plain", 0, RunReport.model_validate(report), None)
    assert "sharpness_gap" in [figure.key for figure in figures_in([run])]


@pytest.mark.parametrize("key", ["fid_infinity", "density", "coverage", "precision_recall"])
def test_a_figure_is_named_by_the_table_and_by_what_computes_it_alone(key: str) -> None:
    root = Path(__file__).parents[2]
    sources = [path for name in ("api", "worker", "cli", "difftune_core") for path in (root / name).rglob("*.py")]
    naming = {path.name for path in sources if f'"{key}"' in path.read_text(encoding="utf-8")}
    assert naming == {"quality.py", "compare.py"} - ({"compare.py"} if key == "precision_recall" else set())


def test_an_entry_point_that_brings_no_metric_is_named(installed: Path) -> None:
    points = installed / "my_metrics-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("SHARPNESS", "Figure"))
    with pytest.raises(RuntimeError, match="is no Metric"):
        EvaluationConfig.model_validate(WITH_SHARPNESS)


@pytest.mark.usefixtures("installed")
def test_a_metric_of_images_is_refused_where_there_are_only_features() -> None:
    features = np.random.default_rng(0).normal(size=(8, 2))
    with pytest.raises(TaskError, match="looks at the images") as caught:
        compare(features, features, metrics=["sharpness"])
    assert caught.value.code == "metric_needs_images"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "fid"},
        {"figures": ()},
        {"figures": (find_figure("kid"),)},
        {"is_default": True},
    ],
)
def test_a_metric_takes_no_name_that_is_taken(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"own|fid"):
        register(toy(**fields))


def test_a_metric_asks_for_what_it_can_be_given() -> None:
    with pytest.raises(ValueError, match="features and images"):
        toy(needs=frozenset({"captions"}))


def test_no_figure_takes_the_place_of_something_else_in_an_evaluation() -> None:
    assert set(Evaluation.model_fields) <= RESERVED


@pytest.mark.parametrize("key", ["step", "own_se", "own_interval", "fd_own", "Own"])
def test_a_figure_s_key_can_be_told_from_others(key: str) -> None:
    with pytest.raises(ValueError, match=r"lower-case|fd_"):
        register(toy(figures=(Figure(key=key, label="Own", meaning="Ours", better="lower"),)))


def test_a_metric_whose_code_is_gone_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))
    register(toy(compute="nowhere.at_all:own"))
    with pytest.raises(TaskError, match="nowhere") as caught:
        check_known(["own"])
    assert caught.value.code == "metric_unloadable"


def test_a_stored_config_can_be_read_when_its_metric_is_gone() -> None:
    stored = {"model": "toy", "evaluation": {"metrics": ["fid", "gone"], "best_metric": "gone"}}
    assert read_stored(TransferConfig, stored).evaluation.best_metric == "gone"
    with pytest.raises(ValidationError):
        TransferConfig.model_validate(stored)


@pytest.mark.usefixtures("installed")
def test_folders_are_not_read_for_a_metric_that_they_cannot_be_judged_by(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="looks at the images") as caught:
        evaluate_folders(tmp_path / "nowhere", tmp_path / "nowhere", [], ["fid", "sharpness"])
    assert (caught.value.code, caught.value.param) == ("metric_needs_images", "metrics")
