"""Results and checkpoints of jobs as models: listed, retrieved, deleted, and used by other jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.jobs import lifecycle
from api.jobs.models import Job
from api.storage import StoredFile

pytestmark = pytest.mark.both_databases
Problem = Callable[..., dict[str, Any]]
JOBS, MODELS = "/v1/fine_tuning/jobs", "/v1/models"


@pytest.fixture
def finished(
    client: TestClient, add_job: Callable[..., dict[str, Any]], rows: Callable[[Callable[[Session], Any]], Any]
) -> dict[str, Any]:
    """A job that has succeeded, with checkpoints of steps 10 and 20, the second its result."""
    job_id = add_job(suffix="flowers")["id"]

    def fill(session: Session) -> None:
        job = lifecycle.lock(session, job_id)
        files = [StoredFile(f"jobs/{job_id}/1/a", "model.safetensors", 1, "a" * 64)]
        for step in (10, 20):
            lifecycle.checkpoint_saved(session, job, fence=1, step=step, name=f"step-{step}", files=files)
        job.status = "running"
        lifecycle.succeeded(session, job)

    rows(fill)
    found: dict[str, Any] = client.get(f"{JOBS}/{job_id}").json()
    return found


def test_results_and_checkpoints_are_listed_after_base_models_and_retrieved(
    client: TestClient, finished: dict[str, Any], stranger: dict[str, str], assert_problem: Problem
) -> None:
    result = finished["fine_tuned_model"]
    listed = client.get(MODELS).json()
    tuned = [model for model in listed["data"] if model["kind"] == "fine_tuned"]
    assert [model["step_number"] for model in tuned] == [20, 10]
    assert listed["data"][-2:] == tuned
    assert tuned[0] == client.get(f"{MODELS}/{result}").json()
    described = {"id": result, "object": "model", "base_model": "tiny-dit", "is_result": True, "digest": "a" * 64}
    assert described.items() <= tuned[0].items()
    assert tuned[0]["fine_tuning_job_id"] == finished["id"]
    first = client.get(MODELS, params={"kind": "fine_tuned", "limit": 1}).json()
    assert first["has_more"]
    rest = client.get(MODELS, params={"after": first["last_id"]}).json()
    assert ([m["id"] for m in first["data"] + rest["data"]], rest["has_more"]) == ([m["id"] for m in tuned], False)
    assert all(m["kind"] == "base_model" for m in client.get(MODELS, headers=stranger).json()["data"])
    assert_problem(client.get(f"{MODELS}/{result}", headers=stranger), 404, "model_not_found")
    assert_problem(client.delete(f"{MODELS}/{result}", headers=stranger), 404, "model_not_found")


def test_a_model_that_a_job_begins_with_is_kept_until_it_has_ended(
    client: TestClient,
    finished: dict[str, Any],
    add_job: Callable[..., dict[str, Any]],
    rows: Callable[[Callable[[Session], Any]], Any],
    assert_problem: Problem,
) -> None:
    result = finished["fine_tuned_model"]
    user = add_job(model=result)["id"]
    assert assert_problem(client.delete(f"{MODELS}/{result}"), 409, "checkpoint_in_use")["jobs"] == [user]
    assert client.post(f"{JOBS}/{user}/cancel").status_code == 200
    assert client.delete(f"{MODELS}/{result}").json() == {"id": result, "object": "model", "deleted": True}
    assert_problem(client.get(f"{MODELS}/{result}"), 404, "model_not_found")
    assert rows(lambda session: session.get_one(Job, finished["id"]).fine_tuned_model) is None
    assert client.get(f"{JOBS}/{finished['id']}").json()["status"] == "succeeded"


def test_a_base_model_is_the_operators(client: TestClient, assert_problem: Problem) -> None:
    assert_problem(client.delete(f"{MODELS}/tiny-dit"), 403, "model_not_deletable", param="model")
