from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs.models import Checkpoint
from api.subjects.models import ResultFile

Problem = Callable[..., dict[str, Any]]
OPEN = {"/healthz", "/readyz", "/v1/objects/{key}"}
FLOOR = 30  # operations that need a key: raise it with each one that is added


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for path, methods in app.openapi()["paths"].items():
        found += [(method, path, operation) for method, operation in methods.items()]
    return found


def test_every_operation_needs_a_key(app: FastAPI, client: TestClient, assert_problem: Problem) -> None:
    del client.headers["authorization"]
    walked = 0
    for method, path, operation in operations(app):
        if path in OPEN:
            assert "security" not in operation
            continue
        answer = client.request(method, re.sub(r"\{\w+\}", "x", path))
        assert_problem(answer, 401, "missing_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert operation["security"] == [{"ApiKey": []}]
        walked += 1
    assert walked >= FLOOR


@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "Basic dXNlcjpwYXNz", "Bearer dft_x_y_z"])
def test_what_is_no_key(client: TestClient, header: str) -> None:
    assert client.get("/v1/models", headers={"authorization": header}).status_code == 401


def test_every_operation_declares_its_errors_and_says_what_it_does(app: FastAPI) -> None:
    names = [operation["operationId"] for _, _, operation in operations(app)]
    assert len(names) == len(set(names))
    for _, _, operation in operations(app):
        assert {"4XX", "5XX"} <= set(operation["responses"])
        assert operation["description"]
    fields = app.openapi()["components"]["schemas"]
    assert fields["Problem"]["properties"]["code"]["description"]
    assert "psi" in fields["DiffTuningHyperparameters"]["properties"]["tau"]["description"]


def test_another_tenants_ids_are_not_there(
    app: FastAPI, client: TestClient, add_job: Callable[..., Any], *, services: Services, stranger: dict[str, str],
    assert_problem: Problem,
) -> None:  # fmt: skip
    job = add_job()
    upload = client.post("/v1/uploads", json={"filename": "a", "bytes": 3, "purpose": "fine-tune"}).json()["id"]

    def publish(session: Session) -> None:
        common = {"tenant_id": "default", "job_id": job["id"], "step": 1, "created_at": 1.0}
        session.add(Checkpoint(**common, id="ckpt_1", fence=1, name="step-1", files=[]))
        file = {"kind": "report_json", "filename": "r", "key": "r", "bytes": 1, "sha256": "0", "content_type": "a/b"}
        file |= {"tenant_id": "default", "subject_id": job["id"], "step": 1, "created_at": 1.0}
        session.add(ResultFile(**file, id="file_1"))

    with services.database.write() as session:
        publish(session)
    ids = {"job_id": [job["id"]], "upload_id": [upload], "dataset_id": [job["training_file"]]}
    ids |= {"file_id": [job["training_file"], "file_1"], "checkpoint_id": ["ckpt_1"]}
    bodies: dict[str, Any] = {
        "complete_upload": {"json": {"part_ids": ["x"]}},
        "presign_part": {"json": {"bytes": 1}},
        "create_part": {"files": {"data": b"x"}},
    }
    walked = 0
    for method, path, operation in operations(app):
        name, *others = re.findall(r"\{(\w+_id)\}", path) or [""]
        for other in others:
            path = path.replace(f"{{{other}}}", "any")  # noqa: PLW2901  # only the first is another tenant's
        for id_ in ids.get(name, []):
            extra = bodies.get(operation["operationId"], {})
            answer = client.request(method, path.replace(f"{{{name}}}", id_), headers=stranger, **extra)
            assert answer.status_code == 404, (method, path, answer.text)
            assert_problem(answer, 404, answer.json()["code"])
            assert answer.json()["code"] != "route_not_found"
            walked += 1
    assert walked >= 24
    for path in ("fine_tuning/jobs", "files", "datasets"):
        assert client.get(f"/v1/{path}", headers=stranger).json()["data"] == []
        assert len(client.get(f"/v1/{path}").json()["data"]) >= 1
    body = {"model": "tiny-dit", "training_file": job["training_file"]}
    answer = client.post("/v1/fine_tuning/jobs", json=body, headers=stranger)
    assert_problem(answer, 422, "dataset_not_found", param="training_file")
    stream = client.get(f"/v1/fine_tuning/jobs/{job['id']}/events?stream=1", headers=stranger)
    assert_problem(stream, 404, "job_not_found")
