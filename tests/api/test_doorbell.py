"""The bell rings after each request that makes work, ends it or changes whose turn it is: nobody waits for a poll."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.datasets import imports
from api.datasets.models import Dataset
from api.deps import Services
from api.jobs.models import Checkpoint
from api.settings import Settings
from api.storage import ObjectInfo

JOBS = "/v1/fine_tuning/jobs"
UPLOAD = {"filename": "a", "bytes": 1, "purpose": "fine-tune"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"import_prefixes": ["s3://open/"]})


@pytest.fixture
def rings(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How each time it rang went."""
    ring, heard = services.doorbell.ring, list[bool]()
    monkeypatch.setattr(services.doorbell, "ring", lambda: heard.append(ring()))
    return heard


@pytest.fixture
def sends(client: TestClient, rings: list[bool]) -> Callable[..., dict[str, Any]]:
    """Send a request that has to ring once."""

    def send(url: str, method: str = "POST", **body: Any) -> dict[str, Any]:
        rings.clear()
        answer = client.request(method, url, **body)
        assert answer.status_code == 200, answer.text
        assert len(rings) == 1, f"{method} {url}"
        return answer.json()

    return send


def test_for_data_sets(client: TestClient, sends: Any, rings: list[bool]) -> None:
    sends("/v1/files", files={"file": ("a.zip", b"zip")}, data={"purpose": "fine-tune"})
    rings.clear()
    upload = client.post("/v1/uploads", json=UPLOAD).json()["id"]
    part = client.post(f"/v1/uploads/{upload}/parts", files={"data": b"x"}).json()["id"]
    assert rings == [], "there is nothing to do yet"
    sends(f"/v1/uploads/{upload}/complete", json={"part_ids": [part]})


def test_for_an_imported_data_set(sends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = ObjectInfo("a.zip", 3, None, "etag", 1.0)
    monkeypatch.setattr(imports.Source, "stat", lambda _self: there)  # the bucket's part is in tests/services
    made = sends("/v1/datasets/import", json={"uri": "s3://open/a.zip"})
    assert (made["status"], made["bytes"]) == ("validating", 3)


def test_for_jobs(sends: Any, ready: str) -> None:
    job = sends(JOBS, json={"model": "tiny-dit", "training_file": ready})["id"]
    for verb in ("pause", "resume", "cancel"):
        sends(f"{JOBS}/{job}/{verb}")


def test_for_comparisons(sends: Any, ready: str) -> None:
    methods = [{"name": name, "method": {"type": "supervised"}} for name in ("a", "b")]
    body = {"model": "tiny-dit", "training_file": ready, "methods": methods, "seeds": [0]}
    sends(f"/v1/comparisons/{sends('/v1/comparisons', json=body)['id']}/cancel")


def test_for_retention_sets(sends: Any) -> None:
    made = sends("/v1/retention_sets", json={"model": "tiny-dit"})["id"]
    sends(f"/v1/retention_sets/{made}/cancel")
    sends(f"/v1/retention_sets/{made}", "DELETE")


def test_for_analyses(sends: Any, ready: str, add_job: Any, set_job: Any, rows: Any) -> None:
    job = add_job()["id"]
    set_job(job, status="succeeded")
    saved = {"step": 1, "name": "step-1", "fence": 1, "files": [], "created_at": 1.0, "job_id": job}
    rows(lambda session: session.add(Checkpoint(id="ckpt_1", tenant_id="default", **saved)))
    rows(lambda session: setattr(session.get_one(Dataset, ready), "sha256", "a" * 64))
    made = sends("/v1/analyses", json={"type": "chain_of_forgetting", "checkpoints": ["ckpt_1"]})["id"]
    sends(f"/v1/analyses/{made}/cancel")
