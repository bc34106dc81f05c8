from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from cli import submit
from cli.main import app


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DIFFTUNE_")]:
        monkeypatch.delenv(name)


class Told:
    """A service that keeps what it is asked for."""

    url = "http://127.0.0.1:9"

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def ask(self, _path: str, **arguments: Any) -> dict[str, Any]:
        self.bodies.append(arguments["json"])
        return {"id": "ftjob_1", "status": "queued", "error": None}


def difftune(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def body(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> dict[str, Any]:
    """What `difftune submit` asks the service for."""
    told = Told()

    class Connected:
        def __enter__(self) -> Told:
            return told

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(submit, "service", lambda *_: Connected())
    done = difftune("submit", *arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout == "ftjob_1\n"
    return told.bodies[0]


def test_a_data_set_alone_is_tuned_on_by_diff_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert body(monkeypatch, "ds_1") == {
        "training_file": "ds_1",
        "model": "tiny-dit",
        "method": {"type": "diff_tuning"},
    }


def test_options_go_before_the_file_and_set_before_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(
        "training_file: ds_of_file\nseed: 3\nsuffix: flowers\n"
        "method: {type: diff_tuning, diff_tuning: {hyperparameters: {tau: 0.5, max_steps: 7}}}\n"
    )
    asked = body(
        monkeypatch, "ds_1", "--config", config, "--seed", 4, "--max-steps", 9, "--set", "evaluation.every_steps=null"
    )
    assert (asked["training_file"], asked["seed"], asked["suffix"]) == ("ds_1", 4, "flowers")
    assert asked["method"]["diff_tuning"]["hyperparameters"] == {"tau": 0.5, "max_steps": 9}
    assert asked["evaluation"] == {"every_steps": None}


def test_json_is_read_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "job.json"
    config.write_text(json.dumps({"training_file": "ds_1", "model": "letters", "method": {"type": "supervised"}}))
    assert body(monkeypatch, "--config", config)["method"] == {"type": "supervised"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which images?"),
        (["ds_1", "--set", "seed"], "--set seed: a field and its value"),
        (["ds_1", "--set", "seed=[1"], "--set seed: "),
        (["ds_1", "--set", "model.x=1"], "model is a value and has no fields"),
        (["ds_1", "--config", "missing.yaml"], "--config missing.yaml cannot be read: No such file"),
    ],
)
def test_a_wrong_option_is_named_before_any_service_is_asked(arguments: list[str], said: str) -> None:
    done = difftune("submit", *arguments)
    assert done.exit_code == 1
    assert said in done.output


def test_a_file_beside_the_config_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "flowers.zip").touch()
    config = tmp_path / "job.yaml"
    config.write_text("training_file: flowers.zip")
    assert submit._read(config) == {"training_file": str(tmp_path / "flowers.zip")}


def test_the_exit_status_tells_how_a_watched_job_ended() -> None:
    with pytest.raises(typer.Exit):
        submit.exit_by({"id": "ftjob_1", "status": "failed", "error": {"message": "The loss is not finite."}})
    submit.exit_by({"id": "ftjob_1", "status": "succeeded", "error": None})


def test_the_version_is_printed() -> None:
    assert difftune("--version").output.startswith("difftune ")


def test_a_length_takes_the_place_of_the_other_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text("method: {type: supervised, supervised: {hyperparameters: {max_steps: 7, batch_size: 4}}}\n")
    asked = body(monkeypatch, "ds_1", "--config", config, "--epochs", 2.5)
    assert asked["method"]["supervised"]["hyperparameters"] == {"batch_size": 4, "epochs": 2.5}
    assert difftune("submit", "ds_1", "--epochs", 2, "--max-steps", 7).exit_code == 1
