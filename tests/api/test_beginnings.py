"""Jobs that begin with a checkpoint: what they take over, what is refused, and what must stay while they live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.jobs import lifecycle
from api.jobs.models import Checkpoint, Job

pytestmark = pytest.mark.both_databases
JOBS = "/v1/fine_tuning/jobs"
Jobs = Callable[..., dict[str, Any]]
Problem = Callable[..., dict[str, Any]]
Rows = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture
def saved(client: TestClient, rows: Rows) -> Callable[..., str]:
    """Give a job a checkpoint, which it has ended with, and return its id."""

    def save(job_id: str, step: int = 10, **changed: object) -> str:
        def fill(session: Session) -> None:
            job = lifecycle.lock(session, job_id)
            lifecycle.checkpoint_saved(session, job, fence=1, step=step, name=f"step-{step}", files=[])
            job.status = "cancelled"
            for name, value in changed.items():
                setattr(job, name, value)

        rows(fill)
        found: str = client.get(f"{JOBS}/{job_id}/checkpoints").json()["data"][0]["id"]
        return found

    return save


def test_a_job_goes_on_from_a_checkpoint_and_tells_where_it_comes_from(
    client: TestClient, add_job: Jobs, saved: Callable[..., str]
) -> None:
    plain = add_job()
    assert (plain["model"], plain["base_model"], plain["lineage"]) == ("tiny-dit", "tiny-dit", [])
    first = saved(plain["id"])
    second = add_job(model=first)
    third = add_job(model=saved(second["id"], 20))
    parent = {"checkpoint": first, "job": plain["id"], "step": 10}
    assert (second["model"], second["base_model"], second["lineage"]) == (first, "tiny-dit", [parent])
    assert third["lineage"] == [{"checkpoint": third["model"], "job": second["id"], "step": 20}, parent]
    assert second["retention_set"] == plain["retention_set"], "of the base model"
    assert second["method"] == plain["method"]
    shown = client.get(JOBS, params={"model": first}).json()["data"]
    assert shown == [client.get(f"{JOBS}/{second['id']}").json()]
    assert len(client.get(JOBS, params={"model": "tiny-dit"}).json()["data"]) == 3


def test_what_cannot_be_begun_with_is_refused_by_name(
    client: TestClient, add_job: Jobs, saved: Callable[..., str], rows: Rows, assert_problem: Problem
) -> None:
    file = add_job()["training_file"]

    def refused(model: str, code: str, param: str = "model", **fields: object) -> None:
        body = {"model": model, "training_file": file, **fields}
        assert_problem(client.post(JOBS, json=body), 422, code, param=param)

    prompts = {"type": "supervised", "supervised": {"hyperparameters": {"adapter": {"type": "vpt"}}}}
    known = saved(add_job()["id"])
    refused("ckpt_0", "model_not_found")
    refused(saved(add_job(method=prompts)["id"]), "adapter_not_mergeable")
    refused(saved(add_job()["id"], base_digest="f" * 64), "model_mismatch")
    refused(saved(add_job()["id"], model="gone"), "model_not_found")
    refused(known, "control_not_for_model", "control", control={"condition": "edge"})
    rows(lambda session: setattr(session.get_one(Checkpoint, known), "tenant_id", "another"))
    refused(known, "model_not_found")


def test_a_checkpoint_stays_as_long_as_a_job_may_read_it(
    client: TestClient, add_job: Jobs, saved: Callable[..., str], rows: Rows, assert_problem: Problem
) -> None:
    parent = add_job()["id"]
    checkpoint = saved(parent)
    child = add_job(model=checkpoint)["id"]
    for url, code in ((f"/v1/checkpoints/{checkpoint}", "checkpoint_in_use"), (f"{JOBS}/{parent}", "job_in_use")):
        assert assert_problem(client.delete(url), 409, code)["jobs"] == [child]
    rows(lambda session: setattr(session.get_one(Job, child), "status", "succeeded"))
    assert client.delete(f"{JOBS}/{parent}").status_code == 200
    lineage = client.get(f"{JOBS}/{child}").json()["lineage"]
    assert [entry["job"] for entry in lineage] == [parent], "also when it is gone"


def test_a_controlnet_goes_on_with_its_condition(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None], saved: Callable[..., str]
) -> None:
    body = {"model": "tiny-sd", "training_file": add_file()}
    settle(body["training_file"], class_names=None, report={"form": "captioned"})
    control = {"condition": "edge", "prompt_dropout": 0.3}
    first = client.post(JOBS, json={**body, "control": control}).json()
    checkpoint = saved(first["id"])
    second = client.post(JOBS, json={**body, "model": checkpoint}).json()
    assert second["control"] == first["control"]
    other = client.post(JOBS, json={**body, "model": checkpoint, "control": {"condition": "sketch"}}).json()
    assert other["control"]["condition"] == "sketch"
    both = {**body, "model": checkpoint, "control": {"condition": "edge", "init_from": "x"}}
    assert client.post(JOBS, json=both).json()["error"]["param"] == "control.init_from"
