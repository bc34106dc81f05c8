"""Imported models go into the data folder or the object store, and out of both again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from sqlalchemy import update
from typer.testing import CliRunner, Result

import difftune_core
from api.base_models import store as stored
from api.db import Database
from api.jobs.models import Job
from api.settings import Settings
from api.storage import open_store
from cli.main import app
from difftune_core.networks.dit import DiT, DiTConfig
from tests.cli.test_models import data_dir, service

__all__ = ["data_dir", "service"]  # fixtures
VAE = Path(difftune_core.__path__[0]) / "weights" / "tiny-dit" / "vae"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


@pytest.fixture
def checkpoint(tmp_path: Path) -> list[object]:
    """Arguments that import a small original checkpoint as `digits`."""
    torch.save(
        DiT(DiTConfig(input_size=8, hidden_size=32, depth=1, num_heads=2, num_classes=3)).state_dict(),
        tmp_path / "a.pt",
    )
    given = {"id": "digits", "vae": VAE, "licence": "Apache-2.0", "num-heads": 2, "feature-extractor": "tiny-features"}
    return ["import", tmp_path / "a.pt", *(part for name, value in given.items() for part in (f"--{name}", value))]


def test_a_model_in_the_store_is_listed_shown_and_removed(data_dir: Path, checkpoint: list[object]) -> None:
    imported = run(*checkpoint, "--to-store", "--data-dir", data_dir)
    assert imported.exit_code == 0, imported.stderr
    assert "in the object store" in imported.stdout
    assert not (data_dir / "models" / "digits").exists(), "one place, not two"
    model = stored.find(open_store(Settings(data_dir=data_dir)), "digits")
    assert model is not None
    assert model.digest == model.card["digest"], "what the trainer checks"
    listed = json.loads(run("list", "--data-dir", data_dir, "--json").stdout)
    assert {"digits", "letters"} <= {card["id"] for card in listed}
    text = run("show", "digits", "--data-dir", data_dir).stdout
    assert "Apache-2.0" in text
    assert "folder:" not in text, "the store is none"
    again = run(*checkpoint, "--to-store", "--data-dir", data_dir)
    assert again.exit_code == 1
    assert "has a model 'digits'; remove it first" in again.stderr
    assert "reading and checking" not in again.stdout, "before any work"
    removed = run("remove", "digits", "--data-dir", data_dir)
    assert removed.stdout == "removed digits from the object store\n"
    assert run("remove", "digits", "--data-dir", data_dir).exit_code == 1


def test_a_folders_model_is_removed(data_dir: Path) -> None:
    result = run("remove", "letters", "--data-dir", data_dir)
    assert result.exit_code == 0, result.stderr
    assert not (data_dir / "models" / "letters").exists()


@pytest.mark.parametrize("model", ["..", "../models", ".hidden", "A"])
def test_only_ids_are_removed(data_dir: Path, model: str) -> None:
    result = run("remove", "--data-dir", data_dir, "--", model)
    assert "is no id of a model" in result.stderr
    assert (data_dir / "models" / "letters").is_dir()


def test_a_bundled_model_is_not_removed(data_dir: Path) -> None:
    bundled = next(path.parent for path in Settings().bundled_models.glob("*/card.json"))
    result = run("remove", bundled.name, "--data-dir", data_dir)
    assert "was not imported by this command" in result.stderr
    assert bundled.is_dir()


def test_a_model_that_a_job_is_to_use_is_not_removed(data_dir: Path, service: tuple[str, str]) -> None:
    url, token = service
    job_id = _submitted(url, token)
    asking = ["remove", "letters", "--data-dir", data_dir, "--url", url, "--key", token]
    result = run(*asking)
    assert result.exit_code == 1
    assert f"used by {job_id}" in result.stderr
    database = Database(Settings(data_dir=data_dir).database)
    with database.write() as session:
        session.execute(update(Job).values(status="cancelled", finished_at=time.time()))
    database.close()
    assert run(*asking).exit_code == 0


def test_what_stands_beside_a_job_s_model_is_not_removed(data_dir: Path, service: tuple[str, str]) -> None:
    url, token = service
    job_id = _submitted(url, token)
    (data_dir / "models" / "dpt").mkdir()
    database = Database(Settings(data_dir=data_dir).database)
    with database.write() as session:
        job = session.get_one(Job, job_id)
        job.config = {**job.config, "control": {"condition": "depth", "annotator": "dpt", "init_from": None}}
    database.close()
    result = run("remove", "dpt", "--data-dir", data_dir, "--url", url, "--key", token)
    assert (result.exit_code, f"used by {job_id}" in result.stderr) == (1, True)
    assert (data_dir / "models" / "dpt").is_dir()


def test_a_model_that_a_retention_set_is_to_use_is_not_removed(data_dir: Path, service: tuple[str, str]) -> None:
    url, token = service
    with httpx2.Client(base_url=url, headers={"authorization": f"Bearer {token}"}) as client:
        set_id = client.post("/v1/retention_sets", json={"model": "letters"}).json()["id"]
    result = run("remove", "letters", "--data-dir", data_dir, "--url", url, "--key", token)
    assert (result.exit_code, f"used by {set_id}" in result.stderr) == (1, True)
    assert (data_dir / "models" / "letters").is_dir()


def _submitted(url: str, token: str) -> str:
    with httpx2.Client(base_url=url, headers={"authorization": f"Bearer {token}"}) as client:
        given: dict[str, Any] = {"files": {"file": ("a.zip", b"zip")}, "data": {"purpose": "fine-tune"}}
        file_id = client.post("/v1/files", **given).json()["id"]
        answer = client.post("/v1/fine_tuning/jobs", json={"model": "letters", "training_file": file_id})
        return str(answer.json()["id"])


@pytest.mark.parametrize("command", [["list"], ["show", "a"], ["remove", "a"], ["import", "a.pt", "--id", "a"]])
@pytest.mark.parametrize(("name", "value"), [("DIFFTUNE_PORT", "many"), ("DIFFTUNE_MODEL_DIRS", "here")])
def test_a_bad_setting_is_a_sentence(
    command: list[str], name: str, value: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    result = run(*command)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert name.removeprefix("DIFFTUNE_").lower() in result.stderr.lower()
    assert result.stderr.startswith("difftune: ")
    assert data_dir.is_dir()


def test_a_store_that_does_not_answer_is_a_sentence(
    data_dir: Path, checkpoint: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFTUNE_STORE_URL", "ftp://bucket")
    for command in ([*checkpoint, "--to-store"], ["remove", "letters"], ["list"]):
        result = run(*command, "--data-dir", data_dir)
        assert "DIFFTUNE_STORE_URL must begin with s3://" in result.stderr
    assert (data_dir / "models" / "letters").is_dir()
