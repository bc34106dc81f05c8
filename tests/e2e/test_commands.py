"""`difftune submit`, `watch`, `logs`, `report`, `download` and `datasets` on a running service."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.e2e.conftest import EVALUATION, QUICK, Service, image_zip, png, zip_of


def difftune(service: Service, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--data-dir", str(service.data_dir)])


def told(service: Service, *arguments: object) -> str:
    done = difftune(service, *arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_job_from_an_archive_to_its_files(service: Service, tmp_path: Path) -> None:
    (tmp_path / "squares.zip").write_bytes(image_zip())
    hyperparameters = {**QUICK, "max_steps": 10, "log_every_steps": 5}
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}}
    (tmp_path / "job.json").write_text(
        json.dumps({"training_file": "squares.zip", "method": method, "evaluation": EVALUATION})
    )
    job = told(service, "submit", "--config", tmp_path / "job.json", "--name", "squares", "--watch").strip()
    assert "succeeded" in told(service, "watch", job)
    assert f"{job}  squares  succeeded" in told(service, "jobs", "list")
    card = told(service, "jobs", "show", job)
    assert "step 10 of 10" in card
    assert "FID" in card
    told(service, "logs", job, "--follow")
    paths = [Path(line) for line in told(service, "report", job, "--to", tmp_path / "report").splitlines()]
    assert {path.suffix for path in paths} == {".json", ".html", ".png"}
    assert all(path.stat().st_size for path in paths)
    page = httpx2.get(told(service, "report", job, "--link").strip())
    assert page.text == next(path for path in paths if path.suffix == ".html").read_text(encoding="utf-8")
    assert page.headers["content-disposition"].startswith("inline")
    weights = Path(told(service, "download", job, "--to", tmp_path).strip())
    assert weights.name == f"squares-{job}-step-10.safetensors"
    assert weights.stat().st_size > 10**6


def test_a_bad_archive_is_told_by_its_files_and_nothing_is_submitted(service: Service, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_bytes(b"this is no archive")
    before = told(service, "jobs", "list")
    done = difftune(service, "submit", tmp_path / "text.zip")
    assert done.exit_code == 1
    assert "text.zip: " in done.output
    assert told(service, "jobs", "list") == before


@pytest.mark.parametrize("command", ["watch", "logs", "report", "download"])
def test_a_job_that_is_not_there_is_named(service: Service, command: str) -> None:
    done = difftune(service, command, "ftjob_none")
    assert done.exit_code == 1
    assert "ftjob_none" in done.output


def test_a_data_set_is_uploaded_listed_and_deleted(service: Service, tmp_path: Path) -> None:
    files = {f"{split}/{i % 2}/{i}.png": png(i % 2, i) for split in ("train", "val") for i in range(6)}
    (tmp_path / "squares.zip").write_bytes(zip_of({**files, "train/0/broken.png": b"no picture"}))
    settings = ("--splits", "train", "--on-bad-files", "skip")
    refused = difftune(service, "datasets", "upload", tmp_path / "squares.zip", *settings)
    assert "broken.png" in refused.output
    dataset = told(service, "datasets", "upload", tmp_path / "squares.zip", "--splits", "validation").strip()
    assert f"{dataset}  squares.zip  ready" in told(service, "datasets", "list")
    assert f"{dataset} is ready: 13 entries, 6 accepted" in told(service, "datasets", "report", dataset)
    told(service, "datasets", "delete", dataset)
    assert dataset not in told(service, "datasets", "list")
