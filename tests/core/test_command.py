from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difftune_core.__main__ import main
from difftune_core.checkpoint.manifest import MANIFEST, Manifest, checkpoint_name, evaluations_of
from difftune_core.data.arguments import options_of
from difftune_core.hooks import OutcomeEvent, TaskError

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]


@pytest.fixture
def difftune_core(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command of it in this process: loading torch takes longer than most of what is asked here."""

    def run(*arguments: str | Path) -> Done:
        command = ["difftune_core", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        status = main()
        return Done(command, status, *capsys.readouterr())

    return run


def test_the_command_is_a_program_with_an_exit_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "difftune_core", "train", "no.json", "--data", ".", "--out", "out"]
    there = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=there)
    assert done.returncode == 1
    assert "file_not_found: --config: there is no no.json" in done.stderr


def noise_images(folder: Path, level: int, count: int = 6) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(level)
    for i in range(count):
        Image.fromarray(rng.integers(0, level, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_evaluate_prints_figures_errors_and_recipe(tmp_path: Path, difftune_core: Command) -> None:
    real, fake = noise_images(tmp_path / "real", 200), noise_images(tmp_path / "fake", 90)
    done = difftune_core("evaluate", "--real", real, "--fake", fake)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["fid"] > 0
    assert {"fid_se", "kid", "kid_se", "recipe", "extractor"} <= result.keys()


def test_a_figure_without_an_error_has_null_which_every_json_reader_takes(
    tmp_path: Path, difftune_core: Command
) -> None:
    two = noise_images(tmp_path / "two", 200, count=2)
    done = difftune_core("evaluate", "--real", two, "--fake", two, "--metrics", "fid")
    assert done.returncode == 0, done.stderr
    assert "NaN" not in done.stdout
    result = json.loads(done.stdout)
    assert (result["fid_se"], result["fid_interval"]) == (None, [None, None])


def test_evaluate_names_what_is_missing(tmp_path: Path, difftune_core: Command) -> None:
    real = noise_images(tmp_path / "real", 200)
    done = difftune_core("evaluate", "--real", real, "--fake", tmp_path / "nowhere")
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluate_takes_a_choice_of_metrics(tmp_path: Path, difftune_core: Command) -> None:
    real, fake = noise_images(tmp_path / "real", 200), noise_images(tmp_path / "fake", 90)
    done = difftune_core("evaluate", "--real", real, "--fake", fake, "--metrics", "kid,precision_recall")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert "fid" not in result
    assert result["kid"] > 0
    assert result["precision"] is None
    assert "at least 100 images" in result["warnings"][0]
    (fake / "broken.png").write_bytes(b"no image")  # metrics are looked at first
    done = difftune_core("evaluate", "--real", real, "--fake", fake, "--metrics", "fid,is")
    assert done.returncode == 1
    assert "metric_unknown: no metric 'is': known are fid, kid, fid_infinity" in done.stderr


def test_evaluate_names_extractors_that_are_missing(tmp_path: Path, difftune_core: Command) -> None:
    real = noise_images(tmp_path / "real", 200)
    done = difftune_core("evaluate", "--real", real, "--fake", real, "--features", tmp_path / "inception")
    assert done.returncode == 1
    assert "file_not_found: --features: there is no" in done.stderr


def test_train_names_the_wrong_field(tmp_path: Path, difftune_core: Command) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"model": "tiny-dit", "method": {"type": "supervised", "supervised": {"lr": 1}}}')
    done = difftune_core("train", config, "--data", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "invalid_config: method/supervised/supervised/lr" in done.stderr


def test_train_names_the_missing_file(tmp_path: Path, difftune_core: Command) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"model": "tiny-dit"}')
    done = difftune_core("train", config, "--data", tmp_path / "no.zip", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "file_not_found: --data" in done.stderr


@pytest.mark.parametrize("command", ["train", "retain"])
def test_caches_are_shared_where_it_is_said_and_else_its_own(
    tmp_path: Path, difftune_core: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    used: list[Path] = []

    def notes(*given: Any, **named: Any) -> OutcomeEvent:
        used.append(named["cache"] if "cache" in named else given[1].cache)
        return OutcomeEvent(code="succeeded")

    monkeypatch.setattr("difftune_core.train.run.train", notes)
    monkeypatch.setattr("difftune_core.families.retain.retain", notes)
    config = tmp_path / "config.json"
    config.write_text('{"model": "tiny-dit"}')
    given = (command, config, "--data", tmp_path, "--out", tmp_path / "out")
    for extra in ((), ("--cache", tmp_path / "shared")):
        assert difftune_core(*given, *extra).returncode == 0
    assert used == [tmp_path / "out" / "cache", tmp_path / "shared"]


@pytest.mark.parametrize("role", ["data", "validation"])
@pytest.mark.parametrize(("given", "named"), [('{"crop": 1}', "crop"), ("no json", ""), ("[]", "")])
def test_a_wrong_setting_of_a_data_set_is_named(role: str, given: str, named: str) -> None:
    options = {f"{role}_options": given}
    with pytest.raises(TaskError) as caught:
        options_of(argparse.Namespace(**options), role)
    assert (caught.value.code, caught.value.param) == ("invalid_config", named or f"{role}_options")


def test_evaluations_are_those_of_the_newest_readable_manifest(tmp_path: Path) -> None:
    assert evaluations_of(tmp_path) == []
    for step in (2, 10):
        folder = tmp_path / checkpoint_name(step)
        folder.mkdir()
        history = {"evaluations": [{"step": step}]}
        manifest = Manifest(step=step, target_images=step, identity={}, envelope={}, history=history, files=[])
        (folder / MANIFEST).write_text(manifest.model_dump_json())
    (tmp_path / checkpoint_name(11)).mkdir()
    assert evaluations_of(tmp_path) == [{"step": 10}]
