"""Logging in to the dashboard: what a session is, what it lets in, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.app import create_app
from api.deps import Services
from api.keys import service as keys
from api.settings import Settings
from api.web.sessions import COOKIE, Signer
from api.web.signing import secret_of

Send = Callable[..., Any]
KEY = "key_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def visitor(app: FastAPI) -> TestClient:
    """A browser without a session."""
    return TestClient(app, follow_redirects=False)


def test_who_has_no_session_is_led_to_the_login_and_back(visitor: TestClient, token: str) -> None:
    led = visitor.get("/jobs?status=failed")
    assert led.status_code == 303
    assert led.headers["location"] == "./login?next=jobs%3Fstatus%3Dfailed"
    assert 'value="jobs?status=failed"' in visitor.get(led.headers["location"].removeprefix(".")).text
    back = visitor.post("/login", data={"key": token, "next": "jobs?status=failed"})
    assert (back.status_code, back.headers["location"]) == (303, "./jobs?status=failed")


def test_the_cookie_is_kept_from_scripts_and_other_sites_and_has_no_secret(visitor: TestClient, token: str) -> None:
    cookie = visitor.post("/login", data={"key": token}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert token.split("_")[2] not in cookie


def test_behind_https_the_cookie_is_sent_by_https_alone(settings: Settings, token: str) -> None:
    app = create_app(settings.model_copy(update={"public_url": "https://tune.example"}))
    answer = TestClient(app).post("/login", data={"key": token}, follow_redirects=False)
    app.state.services.database.close()
    assert "Secure" in answer.headers["set-cookie"]


def test_no_other_text_logs_in(visitor: TestClient) -> None:
    for key in ("", "dft_x", KEY, "<script>alert(1)</script>"):
        answer = visitor.post("/login", data={"key": key})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert 'role="alert"' in answer.text
        assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil", "javascript:x", "a/../b", "a//b"]
)
def test_a_login_leads_nowhere_else(visitor: TestClient, token: str, wanted: str) -> None:
    assert visitor.post("/login", data={"key": token, "next": wanted}).headers["location"] == "./"


def test_a_session_ends_with_its_key(browser: TestClient, services: Services) -> None:
    assert "Log out" in browser.get("/").text

    def revoke(session: Session) -> None:
        (key,) = keys.repository.list_of(session, "default")
        keys.revoke(session, tenant_id="default", key_id=key.id)

    with services.database.write() as session:
        revoke(session)
    services.known_sessions._known.clear()  # what is remembered for `key_cache_s`
    assert browser.get("/", follow_redirects=False).headers["location"] == "./login"


def test_logging_out_forgets_the_session(browser: TestClient, send_form: Send) -> None:
    assert send_form("/", "/logout").status_code == 303
    assert browser.get("/", follow_redirects=False).headers["location"] == "./login"


def test_a_form_without_its_token_does_nothing(browser: TestClient) -> None:
    for given in ({}, {"token": "0" * 64}):
        assert browser.post("/logout", data=given, follow_redirects=False).status_code == 403
    assert "Log out" in browser.get("/").text


def test_a_form_of_another_site_does_not_log_in(visitor: TestClient, token: str) -> None:
    for name, value in (("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "http://evil")):
        answer = visitor.post("/login", data={"key": token}, headers={name: value})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_a_cookie_opens_no_door_of_the_api(browser: TestClient) -> None:
    assert browser.get("/v1/models").status_code == 401
    assert browser.get("/v1/models", headers={"authorization": f"Bearer {KEY}"}).status_code == 401


def test_a_changed_or_old_cookie_opens_nothing() -> None:
    signer = Signer(b"s" * 32, 60)
    cookie = signer.opened(KEY)
    session = signer.read(cookie)
    assert session is not None
    assert session.key_id == KEY
    assert Signer(b"t" * 32, 60).read(cookie) is None
    assert Signer(b"s" * 32, -60).read(Signer(b"s" * 32, -60).opened(KEY)) is None
    for place in range(len(cookie)):
        other = "0" if cookie[place] != "0" else "1"
        assert signer.read(cookie[:place] + other + cookie[place + 1 :]) is None


def test_pages_let_no_foreign_script_run_and_stand_in_no_frame(browser: TestClient) -> None:
    shown = browser.get("/")
    policy = shown.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert shown.headers["cache-control"] == "no-store"
    assert COOKIE not in shown.text


def test_processes_that_share_a_secret_share_sessions(settings: Settings) -> None:
    given, of_store = {"session_secret": "s" * 32}, {"s3_secret_access_key": "k"}
    for shared in (given, of_store, {}):
        made = [secret_of(Settings(data_dir=settings.data_dir, **shared)) for _ in range(2)]
        assert made[0] == made[1]
    assert secret_of(Settings(data_dir=settings.data_dir, **of_store)) not in {b"k", b"s" * 32}
    kept = settings.data_dir / "secrets" / "session-signing.key"
    assert kept.stat().st_mode & 0o077 == 0
    assert len(kept.read_bytes()) == 32
