from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from api import error_handlers, errors
from api.deps import Services, ServicesDep
from api.middleware import KnownHosts
from api.storage import LocalStore, StoreError

Problem = Callable[..., dict[str, Any]]


def test_every_kind_of_error_has_a_status() -> None:
    kinds = set(errors.ServiceError.__subclasses__())
    assert kinds == set(error_handlers._STATUS)
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in kinds)


def test_routes_and_methods_that_are_not_there(client: TestClient, assert_problem: Problem) -> None:
    assert_problem(client.get("/v1/nothing"), 404, "route_not_found")
    answer = client.put("/v1/models")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_a_body_that_is_no_json(client: TestClient, assert_problem: Problem) -> None:
    headers = {"content-type": "application/json"}
    for content in [b"{", b"", b'{"model": }']:
        answer = client.post("/v1/fine_tuning/jobs", content=content, headers=headers)
        assert answer.status_code in {400, 422}
        assert_problem(answer, answer.status_code, answer.json()["code"])
    assert_problem(client.post("/v1/uploads", content=b"{", headers=headers), 400, "malformed_json")
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    assert client.post("/v1/uploads", content=deep, headers=headers).status_code in {400, 422}


def test_a_body_that_is_too_large(client: TestClient, assert_problem: Problem) -> None:
    big = b'{"filename": "' + b"x" * (1 << 20) + b'"}'
    for content in (big, iter([big[:1000], big[1000:]])):
        answer = client.post("/v1/uploads", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert_problem(answer, 413, answer.json()["code"])


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost:8321:1"])
def test_foreign_hosts_are_refused(client: TestClient, assert_problem: Problem, host: str) -> None:
    assert_problem(client.get("/healthz", headers={"host": host}), 400, "host_not_allowed")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8321", "LOCALHOST:1", "[::1]:8321"])
def test_our_hosts_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


def test_every_reply_has_a_request_id(client: TestClient) -> None:
    made = {client.get(path).headers["x-request-id"] for path in ("/healthz", "/healthz", "/v1/nothing")}
    assert len(made) == 3
    assert all(request_id.startswith("req_") for request_id in made)
    given = client.get("/healthz", headers={"x-request-id": "abc-1.2_3"})
    assert given.headers["x-request-id"] == "abc-1.2_3"
    forged = client.get("/healthz", headers={"x-request-id": "a b"})
    assert forged.headers["x-request-id"].startswith("req_")


def test_an_unforeseen_error_tells_nothing_of_itself(
    app: FastAPI, client: TestClient, assert_problem: Problem, logged: io.StringIO
) -> None:
    @app.get("/breaks")
    def breaks(_: ServicesDep) -> None:
        raise RuntimeError("a secret path /root/x")

    answer = client.get("/breaks")
    body = assert_problem(answer, 500, "internal_error")
    assert body["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert "a secret path" in logged.getvalue()


def test_a_store_that_fails_is_503(
    app: FastAPI, client: TestClient, services: Services, assert_problem: Problem
) -> None:

    @app.get("/store")
    def asks(_: ServicesDep) -> None:
        raise StoreError("the bucket name and more")

    answer = client.get("/store")
    assert_problem(answer, 503, "store_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert "bucket" not in answer.text
    assert isinstance(services.store, LocalStore)
    (services.store.root / ".incoming").rmdir()
    assert assert_problem(client.get("/readyz"), 503, "not_ready")["checks"] == {"database": "ok", "store": "no answer"}


@pytest.mark.parametrize(
    ("cause", "said"),
    [(OSError(errno.ENOSPC, "full"), "no room"), (OSError(errno.EACCES, "no"), "no answer"), (None, "no answer")],
)
def test_readiness_says_why_the_store_is_not_there(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch, cause: OSError | None, said: str
) -> None:
    def fails() -> None:
        raise StoreError("not now") from cause

    monkeypatch.setattr(services.store, "check", fails)
    assert said in client.get("/readyz").json()["checks"]["store"]


def test_a_database_that_fails_is_503(client: TestClient, services: Services, assert_problem: Problem) -> None:
    with services.database.write() as session:
        session.connection().exec_driver_sql("DROP TABLE datasets")
    answer = client.get("/v1/datasets")
    assert_problem(answer, 503, "database_unavailable")
    assert "SELECT" not in answer.text


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_announced_as_json_is_415(
    client: TestClient, assert_problem: Problem, content_type: str
) -> None:
    answer = client.post("/v1/uploads", content=b'{"bytes": 1}', headers={"content-type": content_type})
    assert "application/json" in assert_problem(answer, 415, "unsupported_media_type")["detail"]


@pytest.mark.parametrize("path", ["files", "datasets", "fine_tuning/jobs"])
@pytest.mark.parametrize("after", ["nope", "-1", "ds_", "evt_01J9ZZZZZZZZZZZZZZZZZZZZZZ", "%00", "%F0%9F%98%80"])
def test_an_after_that_is_no_id_of_the_list_is_refused(
    client: TestClient, assert_problem: Problem, path: str, after: str
) -> None:
    assert_problem(client.get(f"/v1/{path}?after={after}"), 422, "invalid_cursor", param="after")


def test_values_that_no_database_holds(client: TestClient) -> None:
    for path in ("files/a%00b", "datasets?after=%00", "fine_tuning/jobs?model=%00&metadata[a]=%00", "uploads/%00"):
        assert client.get(f"/v1/{path}").status_code in {200, 400, 404, 422}


def test_readiness_asks_the_database(client: TestClient, services: Services, assert_problem: Problem) -> None:
    assert client.get("/readyz").json() == {"status": "ready", "checks": {"database": "ok", "store": "ok"}}
    with services.database.write() as session:
        session.connection().exec_driver_sql("DROP TABLE alembic_version")
    assert assert_problem(client.get("/readyz"), 503, "not_ready")["checks"]["database"] != "ok"
    assert client.get("/healthz").json() == {"status": "ok"}


def test_logs_name_no_secrets(client: TestClient, services: Services, token: str, logged: io.StringIO) -> None:
    client.get("/v1/models")
    client.get(services.store.url_get("a", filename="a", content_type="a/b", expires_s=5))
    lines = logged.getvalue()
    assert [json.loads(line)["path"] for line in lines.splitlines()] == ["/v1/models", "/v1/objects/a"]
    assert token not in lines
    assert "signature" not in lines


@pytest.mark.parametrize("hosts", [["*"], ["tune.lan", "*"]])
def test_an_operator_can_let_every_host_in(hosts: list[str]) -> None:
    client = TestClient(KnownHosts(PlainTextResponse("in"), hosts), base_url="http://anywhere.example")
    assert client.get("/").text == "in"
