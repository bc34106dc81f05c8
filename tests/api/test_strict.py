"""No route ignores a query parameter, and no body says a thing twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs.models import Job
from tests.api.walking import operations

Problem = Callable[..., dict[str, Any]]
FLOOR = 58  # operations of the API: raise it with each one that is added
JOBS = "/v1/fine_tuning/jobs"


def test_no_route_takes_a_parameter_that_it_does_not_know(
    app: FastAPI, client: TestClient, assert_problem: Problem
) -> None:
    walked = 0
    for operation in operations(app):
        declared = [entry["name"] for entry in operation.document.get("parameters", []) if entry["in"] == "query"]
        for name in ("dry_runs", "limit[]"):
            answer = client.request(operation.method, operation.url, params={name: "true"}, json={})
            body = assert_problem(answer, 422, "unknown_parameter", param=name)
            assert body["errors"][0]["parameter"] == name
            assert all(known in body["detail"] for known in declared or ["none"])
        walked += 1
    assert walked >= FLOOR
    for path in ("/openapi.json", "/docs", "/docs/swagger-ui.css"):
        assert_problem(client.get(path, params={"x": "1"}), 422, "unknown_parameter", param="x")


def test_a_job_that_is_only_to_be_planned_is_not_started(client: TestClient, services: Services, ready: str) -> None:
    body = {"model": "tiny-dit", "training_file": ready}
    assert client.post(f"{JOBS}?dry_run=true", json=body).status_code == 200
    assert client.post(f"{JOBS}?dryrun=true", json=body).status_code == 422
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_a_key_is_asked_for_before_parameters_are_looked_at(client: TestClient, assert_problem: Problem) -> None:
    del client.headers["authorization"]
    assert_problem(client.get("/v1/models?x=1"), 401, "missing_api_key")


def test_a_parameter_that_takes_one_value_is_not_taken_twice(client: TestClient, assert_problem: Problem) -> None:
    assert_problem(client.get(f"{JOBS}?limit=1&limit=2"), 422, "repeated_parameter", param="limit")
    assert_problem(client.get(f"{JOBS}?metadata[a]=1&metadata[a]=2"), 422, "repeated_parameter", param="metadata[a]")
    assert client.get(f"{JOBS}?status=queued&status=running&metadata[a]=1&metadata[b]=2").status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"bytes": 5, "bytes": 7}', "bytes"),
        (b'{"filename": "a", "expires_after": {"seconds": 3600, "seconds": 9999}}', "seconds"),
        (b'[{"a\\"b": 1, "a\\u0022b": 1}]', 'a"b'),
    ],
)
def test_a_field_that_is_there_twice_is_refused_by_every_route(
    app: FastAPI, client: TestClient, assert_problem: Problem, *, body: bytes, field: str
) -> None:
    walked = 0
    for operation in operations(app):
        if operation.body is not None:
            headers = {"content-type": "application/json"}
            answer = client.request(operation.method, operation.url, content=body, headers=headers)
            assert_problem(answer, 400, "repeated_field", param=field)
            walked += 1
    assert walked >= 8


def test_what_is_declared_is_what_the_stock_client_sends(app: FastAPI) -> None:
    """Of OpenAI's client 3.57, by operation: what its methods can put into a query."""
    sent = {
        "list_jobs": {"after", "limit", "metadata"},
        "list_events": {"after", "limit"},
        "list_checkpoints": {"after", "limit"},
        "list_files": {"after", "limit", "order", "purpose"},
    }
    declared = {
        operation.document["operationId"]: {
            entry["name"] for entry in operation.document.get("parameters", []) if entry["in"] == "query"
        }
        for operation in operations(app)
    }
    assert all(names <= declared[operation] for operation, names in sent.items())


@pytest.mark.parametrize(
    ("kind", "wrong", "at_least"),
    [
        ("integer", (" 5", "+5", "5.0", "5_0", "05", "\u0665", ""), 11),
        ("boolean", ("yes", "on", "t", "2", "True", " true", ""), 5),
    ],
)
def test_a_query_parameter_is_written_as_in_json(
    app: FastAPI, client: TestClient, assert_problem: Problem, *, kind: str, wrong: tuple[str, ...], at_least: int
) -> None:
    walked = 0
    for operation in operations(app):
        for entry in operation.document.get("parameters", []):
            if kind in [found.get("type") for found in entry["schema"].get("anyOf", [entry["schema"]])]:
                assert entry["in"] == "query", f"an {kind} in a path needs a test of its own"
                for text in wrong:
                    answer = client.request(operation.method, operation.url, params={entry["name"]: text})
                    assert_problem(answer, 422, "invalid_value", param=entry["name"])
                walked += 1
    assert walked >= at_least


@pytest.mark.parametrize("name", ["host", "authorization", "idempotency-key", "content-type"])
def test_a_header_that_is_read_once_is_not_taken_twice(
    client: TestClient, assert_problem: Problem, services: Services, ready: str, name: str
) -> None:
    given = {"host": "testserver", "authorization": client.headers["authorization"], "content-type": "application/json"}
    value = given.get(name, "one")
    del client.headers["authorization"]
    headers = [*given.items(), (name, value), *([(name, value)] if name not in given else [])]
    body = json.dumps({"model": "tiny-dit", "training_file": ready})
    assert_problem(client.post(JOBS, content=body, headers=headers), 400, "repeated_header", param=name)
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_a_websocket_is_refused_as_all_else_is(client: TestClient, assert_problem: Problem) -> None:
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    assert_problem(client.get("/v1/models", headers=headers), 400, "upgrade_not_supported", param="upgrade")
    assert client.get("/v1/models", headers={"connection": "Upgrade", "upgrade": "h2c"}).status_code == 200
