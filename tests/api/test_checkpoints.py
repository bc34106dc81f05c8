from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.checkpoints.keeping import collect_surplus
from api.deps import Services
from api.jobs.models import Checkpoint, Job, Metric
from api.jobs.states import JobStatus
from api.subjects.models import ResultFile

Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def job_id(add_job: Callable[..., Any], services: Services) -> str:
    """A job with checkpoints of steps 75 and 150, the first without metrics of its own."""
    job_id: str = add_job(suffix="digits")["id"]

    def publish(session: Session) -> None:
        for step in (75, 150):
            key = f"jobs/{job_id}/1/step-{step}/model.safetensors"
            info = services.store.put_stream(key, [b"weights of ", str(step).encode()])
            files = [{"name": "model.safetensors", "key": key, "bytes": info.bytes, "sha256": info.sha256}]
            files.append({"name": "manifest.json", "key": "k", "bytes": 1, "sha256": "0" * 64})
            row = {"tenant_id": "default", "job_id": job_id, "step": step, "fence": 1, "created_at": 1.5}
            session.add(Checkpoint(**row, id=f"ckpt_{step}", name=f"step-{step:08d}", files=files))
        for name, step, value in [("train_loss", 70, 0.3), ("train_loss", 150, 0.2), ("eval_fid", 150, float("inf"))]:
            session.add(Metric(job_id=job_id, name=name, step=step, value=value, created_at=1.0))

    with services.database.write() as session:
        publish(session)
    return job_id


def test_checkpoints_are_listed_newest_first(client: TestClient, job_id: str) -> None:
    url = f"/v1/fine_tuning/jobs/{job_id}/checkpoints"
    newest, older = client.get(url).json()["data"]
    assert (newest["id"], newest["object"]) == ("ckpt_150", "fine_tuning.job.checkpoint")
    assert (newest["step_number"], newest["tags"], older["tags"]) == (150, ["latest"], [])
    assert newest["metrics"] == {"step": 150, "train_loss": 0.2, "eval_fid": None}
    assert older["metrics"] == {"step": 75}, "the loss of step 70 is not its own"
    assert (newest["created_at"], newest["fine_tuning_job_id"]) == (1, job_id)
    assert [file["name"] for file in newest["files"]] == ["model.safetensors", "manifest.json"]
    assert "key" not in newest["files"][0]
    page = client.get(url, params={"limit": 1}).json()
    assert (page["has_more"], page["first_id"]) == (True, "ckpt_150")
    rest = client.get(url, params={"limit": 1, "after": page["last_id"]}).json()
    assert ([c["id"] for c in rest["data"]], rest["has_more"]) == (["ckpt_75"], False)
    assert client.get("/v1/checkpoints/ckpt_75").json() == older


def test_a_list_goes_on_only_after_a_checkpoint_of_the_job(
    client: TestClient, job_id: str, add_job: Callable[..., Any], assert_problem: Problem
) -> None:
    other = f"/v1/fine_tuning/jobs/{add_job()['id']}/checkpoints"
    for url in (f"{other}?after=ckpt_75", f"/v1/fine_tuning/jobs/{job_id}/checkpoints?after=ckpt_1"):
        assert_problem(client.get(url), 422, "invalid_cursor", param="after")


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([10], None),
        ([10, 20], "Deleted the checkpoint of step 10: checkpoints.keep_last is 1."),
        ([10, 20, 30], "Deleted the checkpoints of steps 10, 20: checkpoints.keep_last is 1."),
        ([10, 20, 30, 40], "Deleted the checkpoints of steps 10, 20, 30: checkpoints.keep_last is 1."),
    ],
)
def test_what_was_deleted_beyond_those_that_are_kept_is_said_once(
    client: TestClient, add_job: Callable[..., Any], rows: Any, steps: list[int], told: str | None
) -> None:
    job_id = add_job(checkpoints={"keep_last": 1})["id"]

    def collect(session: Session) -> list[str]:
        job = session.get_one(Job, job_id)
        for step in steps:
            files = [{"name": "model.safetensors", "key": f"k/{step}", "bytes": 1, "sha256": "0" * 64}]
            row = {"tenant_id": "default", "job_id": job_id, "fence": 1, "created_at": 1.0, "files": files}
            session.add(Checkpoint(**row, id=f"ckpt_{step}", name=f"s-{step}", step=step, resume_available=False))
        session.flush()
        return collect_surplus(session, job)

    assert sorted(rows(collect)) == [f"k/{step}" for step in steps[:-1]]
    events = client.get(f"/v1/fine_tuning/jobs/{job_id}/events").json()["data"]
    assert [e["message"] for e in events if e["message"].startswith("Deleted")] == ([told] if told else [])


def test_a_download_redirects_to_a_link(client: TestClient, job_id: str) -> None:
    moved = client.get("/v1/checkpoints/ckpt_75/download")
    assert moved.status_code == 302
    answer = client.get(moved.headers["location"], headers={"authorization": ""})
    assert answer.content == b"weights of 75"
    assert f"digits-{job_id}-step-75.safetensors" in answer.headers["content-disposition"]


def test_the_best_says_so(client: TestClient, job_id: str, set_job: Any) -> None:
    url = f"/v1/fine_tuning/jobs/{job_id}"
    assert client.get(url).json()["best_checkpoint"] is None
    set_job(job_id, best_checkpoint="ckpt_75")
    assert client.get(url).json()["best_checkpoint"] == "ckpt_75"
    newest, best = client.get(f"{url}/checkpoints").json()["data"]
    assert [(c["best"], c["tags"]) for c in (newest, best)] == [(False, ["latest"]), (True, ["best"])]
    set_job(job_id, best_checkpoint="ckpt_150")
    assert client.get("/v1/checkpoints/ckpt_150").json()["tags"] == ["latest", "best"]


@pytest.mark.parametrize("ask", [{"params": {"redirect": "false"}}, {"headers": {"accept": "application/json"}}])
@pytest.mark.usefixtures("job_id")
def test_a_download_can_be_asked_for_as_json(client: TestClient, ask: dict[str, Any]) -> None:
    link = client.get("/v1/checkpoints/ckpt_150/download", **ask).json()
    listed = client.get("/v1/checkpoints/ckpt_150").json()["files"][0]
    assert (link["bytes"], link["sha256"]) == (listed["bytes"], listed["sha256"])
    assert client.get(link["url"]).content == b"weights of 150"


def test_the_diffusers_export_is_of_one_step(
    client: TestClient, job_id: str, services: Services, set_job: Any, assert_problem: Problem
) -> None:
    url = "/v1/checkpoints/ckpt_150/download?format=diffusers"
    assert_problem(client.get(url), 409, "export_not_ready")
    set_job(job_id, status=JobStatus.FAILED)
    assert assert_problem(client.get(url), 404, "export_not_found")["steps"] == []
    services.store.put_stream("export.zip", [b"PK"])
    with services.database.write() as session:
        row = {"tenant_id": "default", "subject_id": job_id, "kind": "export_diffusers", "step": 150, "created_at": 1.0}
        row |= {"filename": "diffusers.zip", "key": "export.zip", "bytes": 2, "content_type": "application/zip"}
        session.add(ResultFile(**row, id="file_1", sha256="0" * 64))
    moved = client.get(url)
    assert client.get(moved.headers["location"]).content == b"PK"
    assert f"digits-{job_id}-step-150-diffusers.zip" in moved.headers["location"]
    other = client.get("/v1/checkpoints/ckpt_75/download?format=diffusers")
    body = assert_problem(other, 404, "export_not_found")
    assert body["steps"] == [150]
    assert "150" in body["detail"]


def test_the_single_file_is_of_controlnets(
    client: TestClient, job_id: str, services: Services, set_job: Any, assert_problem: Problem
) -> None:
    url = "/v1/checkpoints/ckpt_150/download?format=single_file"
    assert "trains none" in assert_problem(client.get(url), 404, "export_not_found")["detail"]
    with services.database.write() as session:
        config = {**session.get_one(Job, job_id).config, "control": {"condition": "edge"}}
    set_job(job_id, config=config)
    assert "single_file" in assert_problem(client.get(url), 409, "export_not_ready")["detail"]
    services.store.put_stream("single", [b"one"])
    with services.database.write() as session:
        row = {
            "tenant_id": "default",
            "subject_id": job_id,
            "kind": "export_single_file",
            "step": 150,
            "created_at": 1.0,
        }
        row |= {"filename": "controlnet.safetensors", "key": "single", "bytes": 3, "content_type": "application/zip"}
        session.add(ResultFile(**row, id="file_1", sha256="0" * 64))
    moved = client.get(url)
    assert client.get(moved.headers["location"]).content == b"one"
    assert f"digits-{job_id}-step-150-controlnet.safetensors" in moved.headers["location"]
    diffusers = client.get("/v1/checkpoints/ckpt_150/download?format=diffusers")
    assert_problem(diffusers, 409, "export_not_ready")


@pytest.mark.usefixtures("job_id")
def test_bad_downloads(client: TestClient, services: Services, assert_problem: Problem) -> None:
    answer = client.get("/v1/checkpoints/ckpt_75/download?format=pickle")
    assert_problem(answer, 422, "invalid_value", param="format")
    assert_problem(client.get("/v1/checkpoints/ckpt_1/download"), 404, "checkpoint_not_found")
    with services.database.write() as session:
        session.get_one(Checkpoint, "ckpt_75").files = []
    assert_problem(client.get("/v1/checkpoints/ckpt_75/download"), 409, "checkpoint_not_ready")


def with_config(services: Services, config: dict[str, Any]) -> None:
    """Give a checkpoint the `config.json` of a DiT, as trainers leave it."""
    stored = services.store.put_stream("config-150", [json.dumps(config).encode()])
    with services.database.write() as session:
        row = session.get_one(Checkpoint, "ckpt_150")
        row.files = [
            *row.files,
            {"name": "config.json", "key": "config-150", "bytes": stored.bytes, "sha256": "0" * 64},
        ]


@pytest.mark.usefixtures("job_id")
def test_weights_for_the_original_code_say_how_they_are_loaded(client: TestClient, services: Services) -> None:
    with_config(services, {"hidden_size": 384, "num_heads": 6, "num_classes": 10})
    url = "/v1/checkpoints/ckpt_150/download?format=original"
    link = client.get(url, headers={"accept": "application/json"}).json()
    assert client.get(link["url"]).content == b"weights of 150"
    assert link["filename"].endswith("step-150-original.safetensors")
    assert "num_heads=6" in link["note"]
    assert "The null label is 10" in link["note"]
    assert client.get(url).status_code == 302
    plain = client.get("/v1/checkpoints/ckpt_150/download", headers={"accept": "application/json"}).json()
    assert plain["note"] is None


@pytest.mark.usefixtures("job_id")
@pytest.mark.parametrize("config", [{"timestep_frequencies": "diffusers"}, {"process": "flow"}, {"prediction": "v"}])
def test_weights_that_the_original_code_would_misread_are_refused(
    client: TestClient, services: Services, assert_problem: Problem, config: dict[str, Any]
) -> None:
    with_config(services, {"hidden_size": 384, "num_heads": 6, "num_classes": 10, **config})
    answer = client.get("/v1/checkpoints/ckpt_150/download?format=original")
    detail = assert_problem(answer, 409, "export_not_possible")["detail"]
    assert "would load in the original DiT code and draw other images" in detail
    assert "original code" in detail


def test_a_controlnet_for_the_original_code_is_its_single_file(
    client: TestClient, job_id: str, services: Services, set_job: Any, assert_problem: Problem
) -> None:
    with services.database.write() as session:
        config = {**session.get_one(Job, job_id).config, "control": {"condition": "edge"}}
    set_job(job_id, config=config)
    answer = client.get("/v1/checkpoints/ckpt_150/download?format=original")
    assert "single_file" in assert_problem(answer, 409, "export_not_possible")["detail"]
