from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from api.app import create_app
from api.deps import Services, WriteSession
from api.keys import service as keys
from api.keys.models import ApiKey
from api.settings import Settings
from api.work.models import WorkItem


class Spied:
    """Notes when the response begins."""

    def __init__(self, app: FastAPI, seen: list[str]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.seen.append(f"response {message['status']}")
            await send(message)

        await self.app(scope, receive, noting)


@pytest.fixture
def seen(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    order: list[str] = []
    event.listen(services.database.engine, "commit", lambda _: order.append("commit"))
    ring = services.doorbell.ring

    def noted() -> bool:
        order.append("ring")
        return ring()

    monkeypatch.setattr(services.doorbell, "ring", noted)
    return order


def test_the_commit_comes_before_the_response_and_the_bell_after(
    app: FastAPI, seen: list[str], token: str, ready: str
) -> None:
    client = TestClient(Spied(app, seen), headers={"authorization": f"Bearer {token}"})
    seen.clear()
    client.post("/v1/uploads", json={"filename": "a", "bytes": 3, "purpose": "fine-tune"})
    assert seen == ["commit", "response 200"]
    seen.clear()
    client.post("/v1/fine_tuning/jobs", json={"model": "tiny-dit", "training_file": ready})
    assert seen[:3] == ["commit", "response 200", "ring"]
    seen.clear()
    client.post("/v1/files", files={"file": ("a.zip", b"x")}, data={"purpose": "fine-tune"})
    assert seen[:3] == ["commit", "response 200", "ring"]


def test_an_error_commits_nothing(app: FastAPI, seen: list[str], token: str, services: Services) -> None:
    @app.post("/half")
    def half(session: WriteSession) -> None:
        session.add(ApiKey(id="key_half", tenant_id="t", name="n", secret_sha256="", created_at=1.0))
        session.flush()
        raise RuntimeError

    client = TestClient(Spied(app, seen), headers={"authorization": f"Bearer {token}"})
    seen.clear()
    assert client.post("/half").status_code == 500
    assert seen == ["response 500"]
    with services.database.read() as session:
        assert session.get(ApiKey, "key_half") is None


def test_a_commit_that_fails_is_no_success(app: FastAPI, token: str, services: Services) -> None:
    def fail(_: Any) -> None:
        raise OSError("disk full")

    event.listen(services.database.engine, "commit", fail)
    client = TestClient(app, headers={"authorization": f"Bearer {token}"})
    answer = client.post("/v1/uploads", json={"filename": "a", "bytes": 3, "purpose": "fine-tune"})
    event.remove(services.database.engine, "commit", fail)
    assert answer.status_code == 500
    with services.database.read() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM uploads").scalar_one() == 0


def test_a_bell_that_cannot_ring_fails_nothing(settings: Settings) -> None:
    dead = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    app = create_app(dead)
    services: Services = app.state.services
    with services.database.write() as session:
        _, token = keys.create(session, tenant_id="default", name="x")
    with TestClient(app, headers={"authorization": f"Bearer {token}"}) as client:
        answer = client.post("/v1/files", files={"file": ("a.zip", b"x")}, data={"purpose": "fine-tune"})
    assert answer.status_code == 200
    with services.database.read() as session:
        assert session.query(WorkItem).one().rung_at is None  # so the sweep rings
