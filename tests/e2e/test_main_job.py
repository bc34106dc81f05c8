"""The main job through the real service, with the unmodified `openai` package."""

from __future__ import annotations

import hashlib
import json
import re

import openai
import pytest

from difftune_core.files import COMPUTED
from tests.e2e.conftest import Service, image_zip, zip_of


@pytest.fixture(scope="module")
def training_file(service: Service) -> str:
    return service.upload(image_zip())


@pytest.fixture(scope="module")
def job(service: Service, training_file: str) -> openai.types.fine_tuning.FineTuningJob:
    held_out = service.upload(image_zip(first=20))
    created = service.submit(training_file, validation_file=held_out, seed=3, suffix="e2e", metadata={"team": "tests"})
    assert created.status in {"validating_files", "queued", "running"}
    finished = service.finished(created.id)
    assert finished.status == "succeeded", finished.error
    return finished


def test_a_job_runs_to_its_end(service: Service, job: openai.types.fine_tuning.FineTuningJob) -> None:
    assert job.fine_tuned_model
    assert job.seed == 3
    assert job.metadata == {"team": "tests"}
    details = job.model_extra["status_details"]
    assert details["step"] == details["total_steps"] == 30
    assert job.model_extra["recoveries"] == 0
    assert service.client.fine_tuning.jobs.list().data[0].object == "fine_tuning.job"


def test_the_events_tell_its_story(service: Service, job: openai.types.fine_tuning.FineTuningJob) -> None:
    listed = list(service.client.fine_tuning.jobs.list_events(job.id, limit=7))
    streamed = list(service.events(job.id))
    assert [e.id for e in reversed(listed)] == [e["id"] for e in streamed], "pages and stream agree"
    phases = [e["data"]["phase"] for e in streamed if e["type"] == "phase"]
    order = ["loading_model", "building_retention_set", "caching_latents", "training", "evaluating", "exporting"]
    assert [p for i, p in enumerate(order) if p in phases] == order
    metrics = [e["data"] for e in streamed if e["type"] == "metrics"]
    assert {"train_loss", "target_loss", "retention_loss"} <= metrics[0].keys()
    assert streamed[-1]["data"]["status"] == "succeeded"


def test_checkpoints_download_with_the_digest_that_was_stated(
    service: Service, job: openai.types.fine_tuning.FineTuningJob
) -> None:
    checkpoints = service.client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [c.step_number for c in checkpoints] == [30, 20, 10]
    assert job.fine_tuned_model == checkpoints[0].id
    for checkpoint in checkpoints:
        link = service.http.get(f"/v1/checkpoints/{checkpoint.id}/download", params={"redirect": "false"}).json()
        data = service.http.get(link["url"], headers={"Authorization": ""}).content
        assert hashlib.sha256(data).hexdigest() == link["sha256"]
    part = service.http.get(link["url"], headers={"Range": "bytes=10-19", "Authorization": ""})
    assert (part.status_code, part.content) == (206, data[10:20])
    broken = service.http.get(link["url"].replace("signature=", "signature=0"), headers={"Authorization": ""})
    assert broken.status_code == 403


def test_the_report_is_whole_and_needs_no_network(
    service: Service, job: openai.types.fine_tuning.FineTuningJob
) -> None:
    files = {service.client.files.retrieve(i).filename: i for i in job.result_files}
    name = {kind: next(n for n in files if n.endswith(kind)) for kind in (".json", ".html")}
    report = json.loads(service.client.files.content(files[name[".json"]]).read())
    (evaluation,) = report["evaluations"]
    assert evaluation["step"] == 30
    assert evaluation["fid"] > 0
    assert evaluation["forgetting"]["null_fid"] > 0
    assert len(evaluation["forgetting"]["retention_loss_by_t"]) == 10
    assert {"base_model", "real_vs_real", "autoencoder_floor"} <= report["references"].keys()
    assert report["recipe"]["feature_extractor"] == "tiny-features"
    assert "Samples on the way" in {grid["title"] for grid in report["grids"]}
    page = service.client.files.content(files[name[".html"]]).read().decode()
    assert not re.search(r'(src|href)="https?://', page)


@pytest.mark.long
def test_a_second_job_shares_the_retention_set(service: Service, training_file: str) -> None:
    place = service.data_dir / "cache" / COMPUTED / "retention"
    folders = list(place.iterdir())
    again = service.finished(service.submit(training_file, seed=4).id)
    assert again.status == "succeeded", again.error
    assert list(place.iterdir()) == folders


@pytest.mark.long
def test_supervised_needs_no_retention_settings(service: Service, training_file: str) -> None:
    job = service.finished(service.submit(training_file, "supervised").id)
    assert job.status == "succeeded", job.error
    assert "retention_set" not in json.dumps(job.method.model_dump())


def test_every_bad_file_is_named(service: Service) -> None:
    good = image_zip()
    bad = zip_of({"a/1.png": good[:0], "a/2.jpg": b"\xff\xd8\xff\xe0 cut", "b/1.png": b"text", "../x.png": b"x"})
    file_id = service.upload(bad)
    status = service.wait_file(file_id)
    assert status == "error"
    report = service.http.get(f"/v1/datasets/{file_id}/report").json()
    named = {error["path"]: error["code"] for error in report["errors"]}
    assert {"a/1.png", "a/2.jpg", "b/1.png", "../x.png"} <= named.keys()
    assert named["a/1.png"] == "empty_file"
    assert named["../x.png"] == "unsafe_path"
    with pytest.raises(openai.ConflictError) as caught:
        service.submit(file_id)
    assert caught.value.code == "dataset_invalid"


def test_a_text_file_named_zip_fails_by_name(service: Service) -> None:
    """At submission where validation was faster, else when the set turns invalid."""
    file_id = service.upload(b"this is no archive", "images.zip")
    try:
        error = service.finished(service.submit(file_id).id).error
    except openai.ConflictError as refused:
        error = refused
    assert (error.code, error.param) == ("dataset_invalid", "training_file")


@pytest.mark.long
def test_cancelling_twice_is_a_conflict_and_checkpoints_stay(service: Service, training_file: str) -> None:
    job = service.submit(training_file, hyperparameters={"max_steps": 5000, "checkpoint_every_steps": 10})
    service.wait(job.id, lambda j: j.status_details["step"] >= 12)
    cancelled = service.client.fine_tuning.jobs.cancel(job.id)
    assert cancelled.status in {"cancelling", "cancelled"}
    with pytest.raises(openai.ConflictError) as caught:
        service.client.fine_tuning.jobs.cancel(job.id)
    assert caught.value.code == "job_not_cancellable"
    assert service.finished(job.id).status == "cancelled"
    assert service.client.fine_tuning.jobs.checkpoints.list(job.id).data
