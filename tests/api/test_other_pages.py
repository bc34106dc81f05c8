"""Models, retention sets, analyses and keys in the dashboard; and what holds for every page."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from api.deps import Services
from api.keys import service as keys

Send = Callable[..., Any]
PAGES = ["/", "/jobs", "/jobs/new", "/datasets", "/comparisons", "/images", "/models", "/more", "/login"]


def test_models_can_be_begun_with(browser: TestClient) -> None:
    assert "./jobs/new?model=tiny-dit" in browser.get("/models").text


def test_a_retention_set_and_an_analysis_are_asked_for_as_by_the_api(browser: TestClient, send_form: Send) -> None:
    assert send_form("/more", "/more/retention-sets", model="tiny-dit").status_code == 303
    assert "tiny-dit, 64 images" in browser.get("/more").text
    refused = send_form("/more", "/more/analyses", checkpoints="ckpt_00000000000000000000000000")
    assert refused.status_code == 422
    assert 'role="alert"' in refused.text


def test_keys_are_ones_own_and_show_no_secret(
    browser: TestClient, services: Services, token: str, stranger: dict[str, str]
) -> None:
    with services.database.write() as session:
        key, _ = keys.create(session, tenant_id="default", name="<i>second</i>")
        second = key.id
    shown = browser.get("/more").text
    assert second in shown
    assert "&lt;i&gt;second" in shown
    assert "this login" in shown
    for bearer in (token, stranger["authorization"].partition(" ")[2]):
        assert bearer.split("_")[2] not in shown
    assert stranger["authorization"].split("_")[1] not in shown


class _Page(HTMLParser):
    """Collects what a page loads, its ids and what its labels and controls are called."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_every_page_holds_to_the_policy_and_can_be_used_by_all(browser: TestClient, ready: str) -> None:
    del ready
    for path in PAGES:
        found = browser.get(path)
        assert found.status_code == 200, path
        page = _Page(found.text)
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids)), path
        for tag, attrs in page.tags:
            assert not any(name.startswith("on") or name == "style" for name in attrs), "no inline script or style"
            assert tag != "script" or attrs.get("src"), "nor a script in the page"
            for name in ("src", "href", "action"):
                assert not re.match(r"/|\w+:", attrs.get(name) or ""), "relative to the page, whatever is before it"
        labelled = {attrs["for"] for tag, attrs in page.tags if tag == "label" and "for" in attrs}
        for tag, attrs in page.tags:
            if tag in {"input", "select", "textarea"} and attrs.get("type") not in {"hidden", "checkbox"}:
                assert attrs.get("id") in labelled, path
        assert [tag for tag, _ in page.tags].count("h1") == 1, path


def test_every_page_but_the_login_needs_a_session(app: FastAPI) -> None:
    visitor = TestClient(app, follow_redirects=False)
    for path in PAGES[:-1]:
        assert visitor.get(path).status_code == 303, path
    for path in ("/jobs/new", "/logout", "/jobs/x/cancel", "/datasets/upload", "/comparisons/new", "/more/analyses"):
        assert visitor.post(path).status_code == 401, path
    for path in ("/files/x", "/checkpoints/x/download", "/jobs/x/events"):
        assert visitor.get(path).status_code == 303, path
