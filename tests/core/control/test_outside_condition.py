"""The condition of docs/extending.md, brought by another distribution."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from difftune_core.config import conditions
from difftune_core.config.control import ControlConfig
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.conditions import annotator
from difftune_core.families.controlnet.controls import comparison_of
from difftune_core.hooks import TaskError
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns
from tests.core.distributions import documented


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    conditions.all_conditions.cache_clear()
    with documented("A condition", "my_conditions", tmp_path, monkeypatch) as site:
        yield site
    conditions.all_conditions.cache_clear()


@pytest.mark.usefixtures("installed")
def test_its_control_images_are_what_it_says() -> None:
    image = np.zeros((20, 24, 3), np.uint8)
    image[:8, 8:16] = (30, 60, 90)
    drawn = annotator("light")(image)
    assert drawn.shape == image.shape
    assert (drawn[:8, 8:16] == 60).all()
    assert drawn.astype(int).sum() == 3 * 64 * 60


@pytest.mark.usefixtures("installed")
def test_a_job_of_it_is_tuned_and_judged_by_how_results_follow_it(toy_runs: ToyRuns) -> None:
    config = toy_runs.config(control={"condition": "light"}, evaluation={"every_steps": 2})
    assert config.evaluation.best_metric == "mse"
    assert toy_runs.train(config, "light", RecordingHooks()).code == "succeeded"
    report = json.loads((toy_runs.root / "light" / "report.json").read_text(encoding="utf-8"))
    assert [0 <= entry["mse"] <= 1 for entry in report["evaluations"]] == [True, True]
    assert report["best"]["metric"] == "mse"
    assert report["recipe"]["annotator"] == "light 1"


@pytest.mark.usefixtures("installed")
def test_schema_and_rules_know_it(toy_runs: ToyRuns) -> None:
    named = ControlConfig.model_json_schema()["properties"]["condition"]["enum"]
    assert named == ["edge", "sketch", "depth", "normal", "segmentation", "light"]
    with pytest.raises(TaskError, match="'light' is computed: no network draws it"):
        toy_runs.config(control={"condition": "light", "annotator": "tiny-depth"})
    with pytest.raises(TaskError, match="best_metric 'ssim' is not measured: there is held_out_loss, mse"):
        toy_runs.config(control={"condition": "light"}, evaluation={"best_metric": "ssim"})


def test_without_it_a_config_is_refused_and_a_stored_one_can_be_read(toy_runs: ToyRuns) -> None:
    with pytest.raises(ValidationError, match="'edge', 'sketch', 'depth', 'normal' or 'segmentation'"):
        ControlConfig(condition="light")
    stored = toy_runs.config().model_dump(mode="json")
    stored["control"]["condition"] = "light"
    config = read_stored(TransferConfig, stored)
    with pytest.raises(TaskError, match="there is no condition 'light'; there are: edge, ") as refused:
        toy_runs.train(config, "gone", RecordingHooks())
    assert refused.value.code == "condition_unknown"


def test_one_whose_code_does_not_load_is_named(installed: Path) -> None:
    (installed / "my_conditions" / "drawn.py").write_text("import nowhere_at_all\n")
    with pytest.raises(TaskError, match="'light' cannot be loaded: No module named") as refused:
        annotator("light")
    assert refused.value.code == "condition_unloadable"
    assert comparison_of("light") is comparison_of("depth")
