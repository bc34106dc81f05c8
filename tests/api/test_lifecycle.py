"""What a worker writes of a job, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs import lifecycle
from api.jobs.lifecycle import Point
from api.jobs.models import Metric
from api.storage import StoredFile

JOBS = "/v1/fine_tuning/jobs"


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_costs_no_other(
    client: TestClient, services: Services, add_job: Callable[..., dict[str, Any]], poison: float
) -> None:
    job_id = add_job()["id"]
    with services.database.write() as session:
        points = [
            Point(1, {"train_loss": 0.5, "grad_norm": poison}),
            Point(2, {"train_loss": poison}),
            Point(3, {"a": 1}),
        ]
        lifecycle.measured(session, lifecycle.lock(session, job_id), points)
    with services.database.read() as session:
        rows = session.scalars(select(Metric).where(Metric.job_id == job_id))
        assert {(row.step, row.name): row.value for row in rows} == {(1, "train_loss"): 0.5, (3, "a"): 1.0}
    events = client.get(f"{JOBS}/{job_id}/events").json()["data"]
    told = [event["data"] for event in events if event["type"] == "metrics"]
    assert sorted(told, key=lambda data: data["step"]) == [{"step": 1, "train_loss": 0.5}, {"step": 3, "a": 1.0}]


def test_a_job_goes_on_from_its_newest_checkpoint_that_has_all_its_files(
    services: Services, add_job: Callable[..., dict[str, Any]]
) -> None:
    job_id = add_job()["id"]
    with services.database.write() as session:
        job = lifecycle.lock(session, job_id)
        for step in (20, 5, 10, 30):
            files = [StoredFile(f"{step}", "resume.safetensors", 1, "0")]
            lifecycle.checkpoint_saved(session, job, fence=1, step=step, name=f"step-{step:08d}", files=files)
        session.flush()
        newest = lifecycle.newest_checkpoint(session, job_id)
        assert newest is not None
        newest.resume_available = False
    with services.database.read() as session:
        assert [row.step for row in lifecycle.resumable_checkpoints(session, job_id)] == [20, 10, 5]
        assert lifecycle.newest_step(session, job_id) == 30
