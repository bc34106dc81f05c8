"""Why something failed is shown with whatever failed: the code, the whole message, and what is at fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.analyses.models import Analysis
from api.comparisons.models import Comparison
from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.jobs import lifecycle, moves
from api.jobs.models import Checkpoint
from api.retention_sets.models import RetentionSet

JOBS = "/v1/fine_tuning/jobs"
Make = Callable[[str], str]
Fail = Callable[[Session, str, Any], None]


@pytest.fixture
def make(client: TestClient, ready: str, *, add_job: Any, compare: Any, set_job: Any, rows: Any) -> Make:
    """Make something by the path of its kind; its id."""

    def analyse() -> str:
        job = add_job()["id"]
        set_job(job, status="succeeded")
        saved = {"step": 1, "name": "step-1", "fence": 1, "files": [], "created_at": 1.0, "job_id": job}
        rows(lambda session: session.add(Checkpoint(id="ckpt_1", tenant_id="default", **saved)))
        rows(lambda session: setattr(session.get_one(Dataset, ready), "sha256", "a" * 64))
        body = {"type": "chain_of_forgetting", "checkpoints": ["ckpt_1"]}
        return str(client.post("/v1/analyses", json=body).json()["id"])

    makers: dict[str, Callable[[], Any]] = {
        JOBS: lambda: add_job()["id"],
        "/v1/comparisons": lambda: compare().json()["id"],
        "/v1/retention_sets": lambda: client.post("/v1/retention_sets", json={"model": "tiny-dit"}).json()["id"],
        "/v1/analyses": analyse,
        "/v1/datasets": lambda: ready,
    }
    return lambda path: str(makers[path]())


def fail_job(session: Session, id_: str, reason: Any) -> None:
    moves.failed(session, lifecycle.lock(session, id_), **reason)


def fail_dataset(session: Session, id_: str, reason: Any) -> None:
    row = session.get_one(Dataset, id_)
    row.status = DatasetStatus.INVALID
    row.error_code, row.error_message = reason["code"], reason["message"]


def fail_set(session: Session, id_: str, reason: Any) -> None:
    artifact = session.get_one(RetentionSet, id_).artifact
    artifact.begin()
    artifact.fail(**reason)


def fail_subject(kind: type[Analysis | Comparison]) -> Fail:
    def fail(session: Session, id_: str, reason: Any) -> None:
        row = session.get_one(kind, id_)
        row.begin()
        assert row.started_at is not None
        row.fail(**reason)

    return fail


@pytest.mark.parametrize(
    ("path", "fail", "names_param"),
    [
        (JOBS, fail_job, True),
        ("/v1/comparisons", fail_subject(Comparison), True),
        ("/v1/analyses", fail_subject(Analysis), True),
        ("/v1/retention_sets", fail_set, False),
        ("/v1/datasets", fail_dataset, False),
    ],
)
def test_by_its_kind(client: TestClient, make: Make, rows: Any, path: str, fail: Fail, *, names_param: bool) -> None:
    made = make(path)
    assert client.get(f"{path}/{made}").json()["error"] is None
    reason = {"code": "out_of_memory", "message": "The GPU has no room for 64 images.", "param": "batch_size"}
    rows(lambda session: fail(session, made, reason))
    shown = reason if names_param else {name: reason[name] for name in ("code", "message")}
    assert client.get(f"{path}/{made}").json()["error"] == shown
    assert client.get(path).json()["data"][0]["error"] == shown


def test_a_job_that_failed_says_so_within_its_comparison(client: TestClient, make: Make, rows: Any) -> None:
    comparison = make("/v1/comparisons")
    job = client.get(f"/v1/comparisons/{comparison}").json()["jobs"][0]["id"]
    reason = {"code": "not_finite", "message": "The loss is no number.", "param": None}
    rows(lambda session: fail_job(session, job, reason))
    first, second, *_ = client.get(f"/v1/comparisons/{comparison}").json()["jobs"]
    assert (first["error"], second["error"]) == (reason, None)
