"""Errors in a browser: a page in the dashboard's style, wherever they arise; programs get problem+json as ever."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"
PROGRAMS = ["", "*/*", "application/json", "application/json, text/html", "text/html;q=0.5, application/json;q=0.9"]


@pytest.fixture
def visitor(app: FastAPI) -> TestClient:
    """A browser that has not logged in."""
    return TestClient(app, headers={"accept": BROWSER}, follow_redirects=False)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/nothing/here?at=all", 404, "There is no page at this address."),
        ("GET", "/v1/nothing", 404, "There is no page at this address."),
        ("GET", "/static/nothing.js", 404, "nothing.js"),
        ("GET", "/v1/models", 401, "Send your API key"),
        ("GET", "/v1/objects/a?method=GET&expires=1&signature=0", 403, "This link cannot be used"),
        ("GET", "/logout", 405, "Method Not Allowed"),
        ("POST", "/nothing", 404, "There is no page at this address."),
    ],
)
def test_a_browser_reads_a_page(visitor: TestClient, method: str, path: str, status: int, said: str) -> None:
    answer = visitor.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["vary"] == "accept"
    assert answer.headers["x-request-id"]
    assert said in answer.text
    assert f'href="{"../" * (path.partition("?")[0].count("/") - 1) or "./"}static/dashboard.css"' in answer.text


def test_what_the_error_needs_in_its_head_is_kept(visitor: TestClient) -> None:
    assert "Bearer" in visitor.get("/v1/models").headers["www-authenticate"]
    assert "POST" in visitor.get("/logout").headers["allow"]


@pytest.mark.parametrize("accept", PROGRAMS)
def test_a_program_reads_json(visitor: TestClient, accept: str) -> None:
    for path in ("/nothing", "/v1/models"):
        answer = visitor.get(path, headers={"accept": accept})
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] in {"route_not_found", "missing_api_key"}
    assert "vary" not in answer.headers


def test_whoever_brings_a_key_is_a_program(client: TestClient) -> None:
    assert client.get("/v1/jobs", headers={"accept": BROWSER}).json()["code"] == "route_not_found"


def test_what_a_page_passes_on_from_the_api_is_told_as_a_page_too(browser: TestClient) -> None:
    for path in ("/files/file_none", "/checkpoints/ckpt_none/download", "/jobs/ftjob_none/events", "/nothing"):
        answer = browser.get(path, headers={"accept": BROWSER})
        assert answer.status_code == 404
        assert "This did not work" in answer.text
        assert "Log out" in answer.text, "with the way to the other pages"


def test_hostile_addresses_are_text(visitor: TestClient) -> None:
    answer = visitor.get("/v1/files/%3Cscript%3Ealert(1)%3C/script%3E/content", headers={"host": "<b>evil</b>"})
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script>alert" not in answer.text
    assert "<b>evil" not in answer.text
