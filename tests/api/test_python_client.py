"""`difftune.Client` against the API, in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import difftune
from api.jobs.models import Checkpoint, Metric
from difftune import service as spoken


@pytest.fixture
def python(app: FastAPI, token: str, monkeypatch: pytest.MonkeyPatch) -> difftune.Client:
    key = {"authorization": f"Bearer {token}"}
    monkeypatch.setattr(spoken.httpx2, "Client", lambda **_: TestClient(app, headers=key, follow_redirects=False))
    return difftune.Client("http://testserver", token)


def test_a_job_is_planned_submitted_found_and_cancelled(python: difftune.Client, ready: str) -> None:
    settings: dict[str, Any] = {"steps": 40, "tau": 0.5, "seed": 3, "evaluation": {"num_images": 32}}
    assert python.plan(ready, **settings)["config"]["seed"] == 3
    job = python.submit(ready, name="flowers", **settings)
    assert (job.status, job.data["suffix"], job.data["seed"]) == ("queued", "flowers", 3)
    hyperparameters = job.data["method"]["diff_tuning"]["hyperparameters"]
    assert (hyperparameters["max_steps"], hyperparameters["tau"]) == (40, 0.5)
    assert [one.id for one in python.jobs()] == [job.id]
    assert python.job(job.id).cancel().status == "cancelled"
    with pytest.raises(difftune.JobFailedError, match=f"{job.id} is cancelled"):
        job.watch(show=False)


def test_plain_fine_tuning_is_a_word_and_what_is_refused_is_quoted(python: difftune.Client, ready: str) -> None:
    assert python.submit(ready, method="supervised", epochs=2.0).data["method"]["type"] == "supervised"
    with pytest.raises(difftune.ServiceError, match="'tiny'"):
        python.submit(ready, model="tiny")
    with pytest.raises(ValueError, match="tau is no field of a job and no hyper-parameter of supervised"):
        python.submit(ready, method="supervised", tau=1.0)
    with pytest.raises(ValueError, match="which images"):
        python.submit(model="tiny-dit")


def test_figures_and_curves_are_those_of_the_result(
    python: difftune.Client, add_job: Callable[..., dict[str, Any]], rows: Callable[..., Any]
) -> None:
    job = python.job(add_job()["id"])
    with pytest.raises(difftune.ServiceError, match="has no checkpoint yet"):
        job.download()
    common = {"tenant_id": "default", "job_id": job.id, "created_at": 1.0, "fence": 1, "files": []}
    values = {1: {"train_loss": 0.5}, 2: {"train_loss": 0.25, "eval_fid": 9.0, "eval_retention_loss": 0.1}}

    def add(session: Any) -> None:
        session.add_all(Checkpoint(**common, id=f"ckpt_{step}", step=step, name=f"step-{step}") for step in values)
        session.add_all(
            Metric(job_id=job.id, name=name, step=step, value=value, created_at=1.0)
            for step, found in values.items()
            for name, value in found.items()
        )

    rows(add)
    assert job.figures == {"train_loss": 0.25, "fid": 9.0, "eval_retention_loss": 0.1}
    assert job.curves["train_loss"] == [(1, 0.5), (2, 0.25)]
    assert job.images == {}
    further = job.continued(steps=5, name="further")
    assert (further.data["model"], further.data["suffix"]) == ("ckpt_2", "further")
