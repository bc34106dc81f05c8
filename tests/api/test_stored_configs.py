"""Jobs that an older version accepted and this one would refuse: their configs are read as they were stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.checkpoints.keeping import collect_surplus, jobs_with_surplus
from api.deps import Services
from api.jobs.lifecycle import delivers_best
from api.jobs.models import Job
from difftune_core.config.run import ResourcesConfig

Json = dict[str, Any]


@pytest.fixture
def old_job(add_job: Callable[..., Json], set_job: Callable[..., None], services: Services) -> str:
    """Of 0.2.0, and with a field that is no more."""
    job_id: str = add_job()["id"]
    with services.database.read() as session:
        config = session.get_one(Job, job_id).config
    hyperparameters = {"psi": "snr", "tau": 2.0, "max_steps": 300, "batch_size": 16, "retention_set": "auto"}
    evaluation = {"num_images": 128, "best_metric": "recall", "holdout_fraction": 0.1, "gone": 1}
    kept = {name: config[name] for name in ("schema_version", "model", "seed", "num_threads")}
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}}
    set_job(job_id, config={**kept, "method": method, "evaluation": evaluation, "gone": 1})
    return job_id


def test_the_job_is_shown_listed_paused_and_resumed(client: TestClient, old_job: str) -> None:
    url = f"/v1/fine_tuning/jobs/{old_job}"
    shown = client.get(url).json()
    assert shown["method"]["diff_tuning"]["hyperparameters"]["tau"] == 2.0
    assert shown["evaluation"]["class_distribution"] == "equal"
    assert "gone" not in shown["evaluation"]
    assert [job["id"] for job in client.get("/v1/fine_tuning/jobs").json()["data"]] == [old_job]
    assert client.post(f"{url}/pause").json()["status"] == "paused"
    assert client.post(f"{url}/resume").json()["status"] == "resuming"


def test_what_is_decided_by_its_config_is_decided(services: Services, old_job: str) -> None:
    with services.database.write() as session:
        job = session.get_one(Job, old_job)
        assert not delivers_best(job)
        assert collect_surplus(session, job) == []
        assert old_job not in jobs_with_surplus(session)
        assert job.transfer.resources.gpus == 1


def test_a_comparison_of_such_jobs_is_shown(
    client: TestClient, compare: Callable[..., Any], set_job: Callable[..., None], services: Services, old_job: str
) -> None:
    made = compare().json()
    with services.database.read() as session:
        config = session.get_one(Job, old_job).config
    for job in made["jobs"]:
        set_job(job["id"], config=config)
    shown = client.get(f"/v1/comparisons/{made['id']}").json()
    assert shown["resources"] == ResourcesConfig(precision="fp32", compile="off").model_dump(), "as it was carried out"
    assert shown["jobs"] == made["jobs"]
