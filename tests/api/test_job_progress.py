from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.jobs.models import Metric
from api.jobs.states import JobStatus
from api.subjects.models import ResultFile
from api.work.models import Attempt, WorkItem
from api.work.states import WorkState

JOBS = "/v1/fine_tuning/jobs"


def claim(session: Session, job_id: str) -> WorkItem:
    """As a worker's claim leaves the rows."""
    item = session.query(WorkItem).filter(WorkItem.subject_id == job_id).one()
    item.state, item.fence = WorkState.LEASED, item.fence + 1
    return item


def test_attempts_progress_and_results_are_shown(
    client: TestClient, add_job: Callable[..., Any], set_job: Any, rows: Any
) -> None:
    job_id = add_job()["id"]

    def run(session: Session) -> None:
        item = claim(session, job_id)
        common = {"work_item_id": item.id, "started_at": 5.0}
        session.add(Attempt(**common, fence=1, worker_id="w1", ended_at=6.0, start_step=0, end_step=9, reason="drain"))
        session.add(Attempt(**common, fence=2, worker_id="w2", start_step=9))
        file = {"kind": "report_json", "step": 9, "filename": "r.json", "key": "r", "bytes": 1, "sha256": "0" * 64}
        file |= {"tenant_id": "default", "content_type": "application/json", "created_at": 1.0}
        session.add(ResultFile(id="file_2", subject_id=job_id, **file))
        session.add(ResultFile(id="file_1", subject_id=job_id, **{**file, "kind": "export_diffusers"}))

    rows(run)
    set_job(job_id, status=JobStatus.RUNNING, phase="training", step=9, steps_per_second=2.0, recoveries=1)
    job = client.get(f"{JOBS}/{job_id}").json()
    assert [(a["attempt"], a["worker_id"], a["start_step"], a["end_step"], a["reason"]) for a in job["attempts"]] == [
        (1, "worker_1", 0, 9, "drain"),
        (2, "worker_2", 9, None, None),
    ]
    assert (job["status_details"]["phase"], job["status_details"]["step"], job["recoveries"]) == ("training", 9, 1)
    assert job["estimated_finish"] > job["created_at"] + 100
    assert job["result_files"] == ["file_1", "file_2"]
    reports = client.get(f"{JOBS}/{job_id}/reports").json()["data"]
    assert [(report["id"], report["url"]) for report in reports] == [("file_2", "/v1/files/file_2/content")]


def test_metrics_are_series_in_pages(client: TestClient, add_job: Callable[..., Any], rows: Any) -> None:
    job_id = add_job()["id"]

    def write(session: Session) -> None:
        for name, step, value in [("train_loss", 10, 0.5), ("eval_fid", 20, float("inf")), ("train_loss", 9, 0.75)]:
            session.add(Metric(job_id=job_id, name=name, step=step, value=value, created_at=1.0))

    rows(write)
    url = f"{JOBS}/{job_id}/metrics"
    first = client.get(url, params={"limit": 2}).json()
    assert [(m["name"], m["step"], m["value"]) for m in first["data"]] == [
        ("eval_fid", 20, None),
        ("train_loss", 9, 0.75),
    ]
    rest = client.get(url, params={"after": first["last_id"]}).json()
    assert [(m["id"], m["value"]) for m in rest["data"]] == [("train_loss:10", 0.5)]
    assert [m["name"] for m in client.get(url, params={"name": "eval_fid"}).json()["data"]] == ["eval_fid"]
