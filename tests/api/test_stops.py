"""Pause and resume as the API answers them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.deps import Services
from api.jobs.models import Checkpoint, Job
from api.retention_sets.models import RetentionSet
from api.subjects.states import Status
from api.work.models import WorkItem
from api.work.states import Request, WorkState
from difftune_core.config.transfer import TransferConfig, config_digest

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def running(services: Services, add_job: Callable[..., dict[str, Any]]) -> str:
    job_id = add_job()["id"]
    with services.database.write() as session:
        item = session.scalars(select(WorkItem).where(WorkItem.subject_id == job_id)).one()
        item.state, item.fence, item.worker_id = WorkState.LEASED, 1, "w"
        session.get_one(Job, job_id).status = "running"
    return job_id


@pytest.fixture
def paused(client: TestClient, add_job: Callable[..., dict[str, Any]]) -> str:
    job_id = add_job()["id"]
    assert client.post(f"{JOBS}/{job_id}/pause").json()["status"] == "paused"
    return job_id


@pytest.fixture
def save(services: Services) -> Callable[..., str]:
    """A checkpoint in the store, as a worker leaves it."""

    def checkpoint(job_id: str, step: int = 7, **identity: str) -> str:
        with services.database.write() as session:
            job = session.get_one(Job, job_id)
            stated = {
                "base_model": job.base_digest,
                "config": config_digest(TransferConfig.model_validate(job.config)),
                "training_data": "images",
            }
            key = f"jobs/{job_id}/1/checkpoints/{step}/manifest.json"
            services.store.put_stream(key, [json.dumps({"identity": {**stated, **identity}}).encode()])
            files = [{"name": "manifest.json", "key": key, "bytes": 1, "sha256": "0"}]
            row = {"id": f"ckpt_{step}", "tenant_id": job.tenant_id, "job_id": job_id, "step": step, "fence": 1}
            session.add(Checkpoint(**row, name=f"step-{step:08d}", files=files, created_at=1.0))
            return row["id"]

    return checkpoint


def test_a_running_job_is_asked_to_pause(client: TestClient, services: Services, running: str) -> None:
    answer = client.post(f"{JOBS}/{running}/pause").json()
    assert answer["status"] == "pausing"
    assert answer["status_details"]["slot_released"] is False
    with services.database.read() as session:
        item = session.scalars(select(WorkItem).where(WorkItem.subject_id == running)).one()
        assert (item.state, item.request) == (WorkState.LEASED, Request.PAUSE)


def test_what_cannot_be_paused_is_a_conflict(
    client: TestClient, running: str, assert_problem: Callable[..., Any]
) -> None:
    client.post(f"{JOBS}/{running}/pause")
    answer = client.post(f"{JOBS}/{running}/pause")
    assert_problem(answer, 409, "job_not_pausable")
    assert answer.headers["x-should-retry"] == "false"
    assert_problem(client.post(f"{JOBS}/{running}/resume"), 409, "job_not_resumable")
    assert_problem(client.post(f"{JOBS}/ftjob_none/resume"), 404, "job_not_found")


def test_a_paused_job_goes_back_to_the_queue(client: TestClient, paused: str, save: Callable[..., str]) -> None:
    saved = save(paused)
    shown = client.get(f"{JOBS}/{paused}").json()["status_details"]
    assert (shown["slot_released"], shown["latest_checkpoint"], shown["queue_position"]) == (True, saved, None)
    answer = client.post(f"{JOBS}/{paused}/resume").json()
    assert (answer["status"], answer["status_details"]["queue_position"]) == ("resuming", 1)
    assert client.get(JOBS).json()["data"][0]["status_details"]["latest_checkpoint"] == saved


def test_a_resume_on_something_else_is_refused_by_name(
    client: TestClient,
    services: Services,
    paused: str,
    save: Callable[..., str],
    assert_problem: Callable[..., Any],
) -> None:
    save(paused, base_model="another", config="another")
    with services.database.write() as session:
        for dataset in session.scalars(select(Dataset)):
            dataset.deleted_at = 1.0
    body = assert_problem(client.post(f"{JOBS}/{paused}/resume"), 409, "resume_mismatch")
    assert body["fields"] == ["config", "model", "training_file"]
    assert client.get(f"{JOBS}/{paused}").json()["status"] == "paused"


def test_a_base_model_that_was_replaced_is_noticed_without_a_checkpoint(
    client: TestClient, services: Services, paused: str, assert_problem: Callable[..., Any]
) -> None:
    path = services.settings.data_dir / "models" / "tiny-dit" / "card.json"
    path.write_text(path.read_text().replace("0" * 64, "1" * 64))
    body = assert_problem(client.post(f"{JOBS}/{paused}/resume"), 409, "resume_mismatch")
    assert body["fields"] == ["model"]


def test_a_retention_set_that_is_gone_is_noticed(
    client: TestClient, services: Services, add_job: Callable[..., dict[str, Any]], assert_problem: Callable[..., Any]
) -> None:
    set_id = client.post("/v1/retention_sets", json={"model": "tiny-dit"}).json()["id"]

    def become(status: Status) -> None:
        with services.database.write() as session:
            session.get_one(RetentionSet, set_id).artifact.status = status

    become(Status.SUCCEEDED)
    hyperparameters = {"retention_set": set_id}
    job_id = add_job(method={"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}})["id"]
    assert client.post(f"{JOBS}/{job_id}/pause").json()["status"] == "paused"
    become(Status.FAILED)
    body = assert_problem(client.post(f"{JOBS}/{job_id}/resume"), 409, "resume_mismatch")
    assert body["fields"] == ["retention_set"]
