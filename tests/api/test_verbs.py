"""HEAD wherever there is GET, OPTIONS everywhere, and an `Allow` that is true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.deps import Services
from tests.api.walking import operations

Problem = Callable[..., dict[str, Any]]
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
FLOOR_PATHS = 44
VARYING = {"x-request-id", "location", "date"}


def test_every_path_says_which_methods_it_takes(app: FastAPI, client: TestClient, assert_problem: Problem) -> None:
    found = operations(app)
    for path in {operation.url for operation in found}:
        methods = {operation.method for operation in found if operation.takes(path)}
        allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        for method in METHODS - allowed - {"HEAD"}:
            answer = client.request(method, path)
            assert_problem(answer, 405, "method_not_allowed")
            assert set(answer.headers["allow"].split(", ")) == allowed, path
        answer = client.options(path, headers={"authorization": ""})
        assert (answer.status_code, answer.content) == (204, b"")
        assert set(answer.headers["allow"].split(", ")) == allowed
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert len({operation.path for operation in found}) >= FLOOR_PATHS


def test_head_answers_as_get_without_a_body(app: FastAPI, client: TestClient, add_job: Callable[..., Any]) -> None:
    job = add_job()
    ids = {"job_id": job["id"], "file_id": job["training_file"], "dataset_id": job["training_file"]}
    walked = right = 0
    for operation in operations(app):
        if operation.method == "GET" and "{key}" not in operation.path:
            ids_here = dict.fromkeys(["model_id", "upload_id", "method"], "tiny-dit") | ids
            path = operation.path
            for name, value in ids_here.items():
                path = path.replace(f"{{{name}}}", value)
            got, head = client.get(path), client.head(path)
            assert head.status_code == got.status_code, path
            assert head.content == b""
            assert _steady(head) == _steady(got), path
            walked += 1
            right += got.status_code == 200
    assert walked >= 30
    assert right >= 15


def _steady(answer: Any) -> dict[str, str]:
    held = {name: value for name, value in answer.headers.items() if name not in VARYING}
    if answer.status_code >= 400:
        del held["content-length"]  # the body has the request's id
    return held


def test_head_of_a_link_and_of_a_stream_ends_at_once(
    client: TestClient, add_job: Callable[..., Any], services: Services
) -> None:
    services.store.put_stream("jobs/ftjob_1/big", [b"x" * 1000] * 500)
    link = services.store.url_get("jobs/ftjob_1/big", filename="big", content_type="a/b", expires_s=60)
    head = client.head(link)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "500000", b"")
    head = client.head(f"/v1/fine_tuning/jobs/{add_job()['id']}/events?stream=true")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("path", ["/v1/files/", "/v1/models/", "/healthz/", "/v1/fine_tuning/jobs/"])
def test_a_slash_at_the_end_leads_nowhere(client: TestClient, path: str, assert_problem: Problem) -> None:
    answer = client.get(path)
    assert "location" not in answer.headers
    assert_problem(answer, 404, answer.json()["code"])
