"""Deleting what is stored: refused while it is in use, invisible to others, and gone from the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.analyses.models import Analysis
from api.comparisons.models import Comparison, ComparisonJob
from api.deps import Services
from api.jobs import lifecycle
from api.jobs.models import Checkpoint, Event, Job
from api.storage import StoredFile
from api.subjects import files as result_files
from api.subjects.files import Result
from api.subjects.models import ResultFile
from api.subjects.states import Status
from api.work.models import WorkItem

pytestmark = pytest.mark.both_databases
Problem = Callable[..., dict[str, Any]]
Rows = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture
def ended(add_job: Callable[..., dict[str, Any]], services: Services, rows: Rows) -> str:
    """A job that was cancelled after two checkpoints and a report."""
    job_id: str = add_job()["id"]
    prefix = f"jobs/{job_id}/1"
    for name in ("10/model.safetensors", "10/resume.safetensors", "20/model.safetensors", "report.html", "10.zip"):
        services.store.put_stream(f"{prefix}/{name}", [name.encode()])

    def fill(session: Session) -> None:
        job = lifecycle.lock(session, job_id)
        for step, names in ((10, ("model", "resume")), (20, ("model",))):
            weights = [f"{name}.safetensors" for name in names]
            files = [StoredFile(f"{prefix}/{step}/{name}", name, 1, "0" * 64) for name in weights]
            lifecycle.checkpoint_saved(session, job, fence=1, step=step, name=f"step-{step}", files=files)
        report = Result(f"{prefix}/report.html", "report.html", 1, "0" * 64, "text/html", kind="report_html", step=20)
        export = Result(f"{prefix}/10.zip", "10.zip", 1, "0" * 64, "application/zip", kind="export_diffusers", step=10)
        result_files.add(session, job, [report, export])
        lifecycle.best_found(session, job, step=10, metric="fid", value=1.0)
        job.status, job.finished_at = "cancelled", time.time()

    rows(fill)
    return job_id


def keys(services: Services) -> list[str]:
    return [info.key.split("/", 2)[2] for info in services.store.list("jobs/")]


def checkpoint_ids(client: TestClient, job_id: str) -> dict[int, str]:
    listed = client.get(f"/v1/fine_tuning/jobs/{job_id}/checkpoints").json()["data"]
    return {row["step_number"]: row["id"] for row in listed}


def test_a_job_goes_with_all_that_it_made(client: TestClient, ended: str, services: Services, rows: Rows) -> None:
    url = f"/v1/fine_tuning/jobs/{ended}"
    assert client.delete(url).json() == {"id": ended, "object": "fine_tuning.job", "deleted": True}
    assert client.get(url).status_code == client.delete(url).status_code == 404
    assert keys(services) == []
    left = rows(lambda s: [s.scalar(select(func.count()).select_from(t)) for t in (Job, Checkpoint, ResultFile, Event)])
    assert left == [0, 0, 0, 0]
    assert rows(lambda s: list(s.scalars(select(WorkItem).where(WorkItem.subject_id == ended)))) == []


def test_a_job_that_has_not_ended_stays(
    client: TestClient, add_job: Callable[..., dict[str, Any]], assert_problem: Problem
) -> None:
    job_id = add_job()["id"]
    assert_problem(client.delete(f"/v1/fine_tuning/jobs/{job_id}"), 409, "job_not_final")
    assert client.get(f"/v1/fine_tuning/jobs/{job_id}").json()["status"] == "queued"


def test_a_job_and_a_checkpoint_that_an_analysis_looks_at_stay(
    client: TestClient, ended: str, ready: str, rows: Rows, assert_problem: Problem
) -> None:
    first = checkpoint_ids(client, ended)[10]
    look = [{"id": first, "name": "a", "job_id": ended, "step": 10}]
    analysis = {"tenant_id": "default", "type": "chain", "config": {}, "checkpoints": look, "training_file": ready}
    rows(lambda s: s.add(Analysis(id="an", created_at=1.0, **analysis)))
    for url, code in (
        (f"/v1/fine_tuning/jobs/{ended}", "job_in_use"),
        (f"/v1/checkpoints/{first}", "checkpoint_in_use"),
    ):
        assert assert_problem(client.delete(url), 409, code)["analyses"] == ["an"]
    rows(lambda s: setattr(s.get_one(Analysis, "an"), "status", "succeeded"))
    assert client.delete(f"/v1/fine_tuning/jobs/{ended}").status_code == 200


def test_a_job_of_a_comparison_stays(
    client: TestClient, ended: str, ready: str, rows: Rows, assert_problem: Problem
) -> None:
    def compare(session: Session) -> None:
        asked = {"model": "tiny-dit", "methods": [], "seeds": [], "evaluation": {}, "training_file": ready}
        session.add(Comparison(id="cmp", tenant_id="default", created_at=1.0, **asked))
        session.flush()
        session.add(ComparisonJob(job_id=ended, comparison_id="cmp", method="a", seed=0))

    rows(compare)
    body = assert_problem(client.delete(f"/v1/fine_tuning/jobs/{ended}"), 409, "job_in_use")
    assert body["comparisons"] == ["cmp"]


@pytest.fixture
def comparison(client: TestClient, compare: Any, services: Services, rows: Rows) -> str:
    """A comparison that was cancelled, with a joint report all the same."""
    made: str = compare().json()["id"]
    client.post(f"/v1/comparisons/{made}/cancel")
    services.store.put_stream(f"comparisons/{made}/1/comparison.json", [b"{}"])
    file = {"filename": "comparison.json", "kind": "report_json", "bytes": 2, "sha256": "0" * 64, "created_at": 1.0}
    file |= {"key": f"comparisons/{made}/1/comparison.json", "content_type": "application/json"}
    rows(lambda session: session.add(ResultFile(tenant_id="default", subject_id=made, **file)))
    return made


def test_a_comparison_goes_with_its_report_and_frees_its_jobs(
    client: TestClient, comparison: str, services: Services, rows: Rows
) -> None:
    url = f"/v1/comparisons/{comparison}"
    jobs = [job["id"] for job in client.get(url).json()["jobs"]]
    assert client.delete(f"/v1/fine_tuning/jobs/{jobs[0]}").status_code == 409
    assert client.delete(url).json() == {"id": comparison, "object": "comparison", "deleted": True}
    assert client.get(url).status_code == client.delete(url).status_code == 404
    assert list(services.store.list("comparisons/")) == []
    assert rows(lambda session: session.scalars(select(ResultFile)).all()) == []
    for job_id in jobs:
        assert client.get(f"/v1/fine_tuning/jobs/{job_id}").json()["metadata"]["comparison"] == comparison
        assert client.delete(f"/v1/fine_tuning/jobs/{job_id}").status_code == 200


def test_a_comparison_takes_its_jobs_along_all_or_none(
    client: TestClient, comparison: str, rows: Rows, assert_problem: Problem
) -> None:
    url = f"/v1/comparisons/{comparison}"
    used = client.get(url).json()["jobs"][-1]["id"]

    def look_at(session: Session) -> None:
        lifecycle.checkpoint_saved(session, lifecycle.lock(session, used), fence=1, step=1, name="s", files=[])
        saved = session.scalars(select(Checkpoint)).one()
        about = {"type": "chain_of_forgetting", "config": {}, "training_file": session.get_one(Job, used).training_file}
        row = Analysis(id="an", tenant_id="default", checkpoints=[{"id": saved.id}], total=1, created_at=1.0, **about)
        session.add(row)

    rows(look_at)
    assert_problem(client.delete(url, params={"jobs": "true"}), 409, "job_in_use")
    assert len(client.get(url).json()["jobs"]) == 4
    rows(lambda session: session.get_one(Analysis, "an").set_status(Status.CANCELLED))
    assert client.delete(url, params={"jobs": "true"}).status_code == 200
    assert client.get("/v1/fine_tuning/jobs").json()["data"] == []


def test_a_comparison_that_is_not_final_or_another_tenants_stays(
    client: TestClient, compare: Any, stranger: dict[str, str], assert_problem: Problem
) -> None:
    url = f"/v1/comparisons/{compare().json()['id']}"
    assert_problem(client.delete(url), 409, "comparison_not_final")
    assert_problem(client.delete(url, headers=stranger), 404, "comparison_not_found")
    assert client.get(url).json()["status"] == "queued"


def test_a_checkpoint_goes_with_its_export(client: TestClient, ended: str, services: Services) -> None:
    ids = checkpoint_ids(client, ended)
    answer = client.delete(f"/v1/checkpoints/{ids[10]}").json()
    assert answer == {"id": ids[10], "object": "fine_tuning.job.checkpoint", "deleted": True}
    assert client.get(f"/v1/checkpoints/{ids[10]}").status_code == 404
    assert keys(services) == ["1/20/model.safetensors", "1/report.html"]
    assert checkpoint_ids(client, ended) == {20: ids[20]}
    assert client.get(f"/v1/fine_tuning/jobs/{ended}").json()["best_checkpoint"] is None


def test_a_checkpoint_that_is_needed_stays(
    client: TestClient, ended: str, set_job: Callable[..., None], assert_problem: Problem
) -> None:
    ids = checkpoint_ids(client, ended)
    set_job(ended, status="paused")
    body = assert_problem(client.delete(f"/v1/checkpoints/{ids[20]}"), 409, "checkpoint_in_use")
    assert body["jobs"] == [ended]
    set_job(ended, status="succeeded", fine_tuned_model=ids[20])
    assert_problem(client.delete(f"/v1/checkpoints/{ids[20]}"), 409, "checkpoint_in_use")
    assert client.delete(f"/v1/checkpoints/{ids[10]}").status_code == 200


def test_strangers_delete_nothing(
    client: TestClient, ended: str, stranger: dict[str, str], services: Services, assert_problem: Problem
) -> None:
    checkpoint = checkpoint_ids(client, ended)[10]
    for url, code in (
        (f"/v1/fine_tuning/jobs/{ended}", "job_not_found"),
        (f"/v1/checkpoints/{checkpoint}", "checkpoint_not_found"),
    ):
        assert_problem(client.delete(url, headers=stranger), 404, code)
    assert len(keys(services)) == 5
