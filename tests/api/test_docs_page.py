"""Pages for people: they load what they need from us alone, wherever a proxy puts them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.api.walking import operations


@pytest.mark.parametrize("page", ["/login", "/docs"])
def test_a_page_needs_no_key_and_loads_from_us_alone(client: TestClient, page: str) -> None:
    del client.headers["authorization"]
    shown = client.get(page)
    assert shown.status_code == 200
    assert shown.headers["content-type"].startswith("text/html")
    policy = shown.headers["content-security-policy"]
    sources = {source for part in policy.split(";") for source in part.split()[1:]}
    assert sources == {"'none'", "'self'", "data:"}
    assert "<script>" not in shown.text
    loaded = [name for name in re.findall(r'(?:src|href)="([^"]+)"', shown.text) if name != "data:," and name[0] != "#"]
    assert loaded
    for name in loaded:
        assert not re.match(r"/|\w+:", name), "relative to the page, whatever is before it"
        found = client.get(f"/{name}", follow_redirects=True)
        assert found.status_code == 200, name
        assert len(found.content) > 10


def test_the_docs_page_is_swagger_ui_over_our_description(client: TestClient) -> None:
    bundle = client.get("/docs/swagger-ui-bundle.js")
    assert bundle.headers["content-type"].startswith("text/javascript")
    assert b"SwaggerUIBundle" in bundle.content
    assert '"openapi.json"' in client.get("/docs/start.js").text
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_every_operation_stands_under_one_heading_with_the_others_of_its_subject(app: FastAPI) -> None:
    headings: dict[str, set[str]] = {}
    for operation in operations(app):
        assert len(operation.document.get("tags", [])) == 1, operation.path
        headings.setdefault(operation.document["tags"][0], set()).update(operation.path.split("/")[2:3])
    assert headings["comparisons"] == {"comparisons"}
    assert headings["fine-tuning"] == {"fine_tuning"}
    assert headings["checkpoints"] == {"checkpoints", "fine_tuning"}


def test_there_is_no_other_asset(client: TestClient, assert_problem: Callable[..., dict[str, Any]]) -> None:
    assert_problem(client.get("/docs/..%2f__init__.py"), 404, "route_not_found")
    assert_problem(client.get("/docs/redoc.standalone.js"), 404, "page_not_found")
