"""`difftune` as it speaks to the API: uploads that are refused, what was left out, comparisons. In one process."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.deps import Services
from api.jobs.models import Checkpoint
from cli import service as module
from cli.main import app as command
from difftune import service as spoken

Difftune = Callable[..., Result]


def finding(path: str, code: str) -> dict[str, str]:
    return {"path": path, "code": code, "message": f"{path} is {code}"}


FAULTS = {
    "ok": False,
    "num_items": 20,
    "entries": 24,
    "accepted": 20,
    "rejected": 2,
    "ignored": 30,
    "errors": [finding("a/1.png", "truncated_image"), finding("b/2.png", "damaged_file")],
    "warnings": [],
    "skipped_files": [finding("a/3.png", "empty_file")],
    "ignored_files": [finding(f"{number}.json", "not_an_image") for number in range(30)],
}


@pytest.fixture
def difftune(app: FastAPI, token: str, monkeypatch: pytest.MonkeyPatch) -> Difftune:
    """Run a command of it against the application."""
    monkeypatch.setattr(module, "_here", lambda _: ("http://testserver", token))
    key = {"authorization": f"Bearer {token}"}
    monkeypatch.setattr(spoken.httpx2, "Client", lambda **_: TestClient(app, headers=key, follow_redirects=False))
    return lambda *arguments: CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def judged(services: Services, settle: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a worker finds of each upload while a command waits for it; to be filled in."""
    found: dict[str, Any] = {}

    def look(_: float) -> None:
        with services.database.read() as session:
            waiting = session.scalars(select(Dataset.id).where(Dataset.status == DatasetStatus.VALIDATING)).all()
        for dataset_id in waiting:
            settle(dataset_id, **found)

    monkeypatch.setattr(spoken.time, "sleep", look)
    return found


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "flowers.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("a/1.png", b"x")
    return path


REFUSED = {"status": DatasetStatus.INVALID, "error_code": "invalid", "error_message": "a/1.png: it is cut (and 1 more)"}


@pytest.mark.parametrize("command_", [("submit",), ("datasets", "upload")])
def test_a_refused_upload_is_named_with_each_fault_once_and_what_can_be_done(
    difftune: Difftune, judged: dict[str, Any], archive: Path, services: Services, command_: tuple[str, ...]
) -> None:
    judged |= {**REFUSED, "report": {**FAULTS, "num_errors": 2}}
    done = difftune(*command_, archive)
    with services.database.read() as session:
        (dataset_id,) = session.scalars(select(Dataset.id)).all()
    assert done.exit_code == 1
    assert done.stderr.count("a/1.png is truncated_image") == done.stderr.count("b/2.png is damaged_file") == 1
    assert "--on-bad-files skip" in done.stderr
    assert f"difftune datasets report {dataset_id}" in done.stderr
    judged["report"] = {**FAULTS, "errors": [finding("", "splits_found")], "num_items": 0}
    assert "--on-bad-files" not in difftune(*command_, archive).stderr, "nothing could be skipped"


@pytest.mark.usefixtures("judged")
def test_settings_of_a_data_set_go_with_its_upload(difftune: Difftune, archive: Path, services: Services) -> None:
    done = difftune("submit", archive, "--validation", archive, "--on-bad-files", "skip", "--splits", "hold_out")
    assert done.exit_code == 0, done.stderr
    with services.database.read() as session:
        training, validation = (one.settings for one in session.scalars(select(Dataset).order_by(Dataset.id)))
    assert (training.on_bad_files, training.splits) == ("skip", "hold_out")
    assert (validation.on_bad_files, validation.splits) == ("skip", "refuse")


@pytest.mark.usefixtures("judged")
def test_what_was_uploaded_for_a_job_that_is_refused_is_named(
    difftune: Difftune, archive: Path, services: Services
) -> None:
    done = difftune("submit", archive, "--set", "evaluation.num_images=1")
    with services.database.read() as session:
        (dataset_id,) = session.scalars(select(Dataset.id)).all()
    assert done.exit_code == 1
    assert "evaluation.num_images" in done.stderr
    assert f"uploaded and kept: {dataset_id}" in done.stderr


@pytest.mark.usefixtures("judged")
def test_a_folder_is_packed_on_disk(
    difftune: Difftune, tmp_path: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, place = tmp_path / "my flowers", tmp_path / "room"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    for name in ("a/1.png", "b/c/2.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(name.encode())
    (folder / "b" / "link.png").symlink_to(folder / "a" / "1.png")
    done = difftune("datasets", "upload", folder)
    assert done.exit_code == 0, done.stderr
    with services.database.read() as session:
        dataset = session.scalars(select(Dataset)).one()
    (part,) = dataset.parts
    with zipfile.ZipFile(io.BytesIO(b"".join(services.store.read(part["key"])))) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == {
            "a/1.png": b"a/1.png",
            "b/c/2.png": b"b/c/2.png",
            "b/link.png": b"a/1.png",
        }
    assert dataset.filename == "my flowers.zip"
    assert not list(place.iterdir())
    (tmp_path / "empty").mkdir()
    for missing in (tmp_path / "empty", tmp_path / "none"):
        assert str(missing) in difftune("datasets", "upload", missing).stderr


def test_the_report_names_what_was_left_out(difftune: Difftune, ready: str, rows: Callable[..., Any]) -> None:
    def act(session: Any) -> None:
        session.get_one(Dataset, ready).report = FAULTS

    rows(act)
    lines = difftune("datasets", "report", ready).stdout.splitlines()
    assert "skipped: a/3.png: a/3.png is empty_file (empty_file)" in lines
    assert "ignored: 0.json: 0.json is not_an_image (not_an_image)" in lines
    assert lines[-1].startswith("ignored: and 10 more")


def test_comparisons_are_listed_shown_cancelled_and_deleted(difftune: Difftune, compare: Callable[..., Any]) -> None:
    made = compare(suffix="flowers").json()
    assert f"{made['id']}  flowers  queued" in difftune("comparisons", "list").stdout
    assert made["id"] not in difftune("comparisons", "list", "--status", "succeeded").stdout
    shown = difftune("comparisons", "show", made["id"]).stdout
    assert all(job["id"] in shown for job in made["jobs"])
    assert "0 of 1200 steps; jobs: 4 queued" in shown
    assert json.loads(difftune("comparisons", "show", made["id"], "--json").stdout)["id"] == made["id"]
    assert difftune("comparisons", "delete", made["id"]).exit_code == 1, "it has not ended"
    assert difftune("comparisons", "cancel", made["id"]).stdout == f"{made['id']} is cancelled\n"
    assert "with its jobs" in difftune("comparisons", "delete", made["id"], "--jobs").stdout
    assert difftune("comparisons", "show", made["id"]).exit_code == 1
    assert difftune("jobs", "show", made["jobs"][0]["id"]).exit_code == 1


def test_what_a_job_will_never_have_is_not_promised(difftune: Difftune, add_job: Callable[..., Any]) -> None:
    job = add_job()["id"]
    assert f"{job} has no report yet" in difftune("report", job).stderr
    assert (done := difftune("logs", job)).stdout == ""
    assert (done.exit_code, f"there is no log of {job}" in done.stderr) == (0, True)
    difftune("jobs", "cancel", job)
    for verb, what in (("report", "report"), ("download", "checkpoint")):
        assert f"{job} has no {what}: it is cancelled" in difftune(verb, job).stderr


def test_a_retention_set_is_made_listed_shown_given_up_and_deleted(difftune: Difftune) -> None:
    made = difftune("retention", "make", "tiny-dit", "--num-images", 8, "--set", "num_inference_steps=3")
    assert made.exit_code == 0, made.output
    retention_set = made.stdout.strip()
    assert f"{retention_set}  queued  0 of 8  tiny-dit  sampled" in difftune("retention", "list").stdout
    assert "num_inference_steps: 3" in difftune("retention", "show", retention_set).stdout
    refused = difftune("retention", "download", retention_set)
    assert (refused.exit_code, "has no images to download" in refused.output) == (1, True)
    assert json.loads(difftune("retention", "cancel", retention_set, "--json").stdout)["status"] == "cancelled"
    assert difftune("retention", "delete", retention_set).stdout == f"{retention_set} is deleted\n"


def test_a_job_goes_on_from_anothers_checkpoint_with_its_settings(
    difftune: Difftune, add_job: Callable[..., dict[str, Any]], rows: Callable[..., Any]
) -> None:
    hyperparameters = {"tau": 0.5, "max_steps": 40, "learning_rate": 0.002}
    first = add_job(seed=3, method={"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}})
    common = {"tenant_id": "default", "job_id": first["id"], "step": 40, "created_at": 1.0}
    checkpoint = Checkpoint(**common, id="ckpt_1", fence=1, name="step-40", files=[])
    rows(lambda session: session.add(checkpoint))
    done = difftune("continue", first["id"], "--max-steps", 20, "--name", "further", "--json")
    assert done.exit_code == 0, done.output
    job = json.loads(done.stdout)
    assert (job["model"], job["base_model"], job["suffix"], job["seed"]) == ("ckpt_1", "tiny-dit", "further", 3)
    assert job["training_file"] == first["training_file"]
    stated = {**first["method"]["diff_tuning"]["hyperparameters"], "max_steps": 20}
    assert job["method"]["diff_tuning"]["hyperparameters"] == stated
