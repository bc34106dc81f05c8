from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.app import create_app
from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.deps import Services
from api.jobs.models import Job
from api.jobs.service import dataset_settled
from api.keys import service as keys
from api.logging import configure_logging
from api.settings import Settings
from api.subjects.models import ResultFile

CARD = {
    "id": "tiny-dit",
    "family": "dit",
    "image_size": 32,
    "num_classes": 52,
    "num_parameters": 1_900_000,
    "created_at": 1_767_225_600,
    "feature_extractor": "tiny-features",
    "digest": "0" * 64,
    "source": "difftune",
    "defaults": {
        "training": {"max_steps": 300, "batch_size": 16, "horizontal_flip": False, "unknown_to_this_release": 1},
        "retention_set": {"num_images": 64},
        "evaluation": {"num_images": 128},
    },
}


@pytest.fixture(autouse=True)
def logged() -> io.StringIO:
    """What the service logs."""
    stream = io.StringIO()
    configure_logging(stream=stream)
    return stream


@pytest.fixture
def data_dir(tmp_path: Path, migrated: Callable[[Path], None]) -> Path:
    migrated(tmp_path)
    folder = tmp_path / "models" / CARD["id"]
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(CARD), encoding="utf-8")
    return tmp_path


@pytest.fixture
def settings(data_dir: Path, server_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("DIFFTUNE_")]:
        monkeypatch.delenv(name)
    return Settings(data_dir=data_dir, max_part_bytes=200_000, max_file_bytes=300_000, **server_settings)


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    made = create_app(settings)
    yield made
    made.state.services.database.close()


@pytest.fixture
def services(app: FastAPI) -> Services:
    return app.state.services


@pytest.fixture
def token(services: Services) -> str:
    with services.database.write() as session:
        return keys.create(session, tenant_id="default", name="test")[1]


@pytest.fixture
def client(app: FastAPI, token: str) -> Iterator[TestClient]:
    with TestClient(app, headers={"authorization": f"Bearer {token}"}, follow_redirects=False) as made:
        yield made


@pytest.fixture
def browser(app: FastAPI, client: TestClient, token: str) -> TestClient:
    """A browser that has logged in to the dashboard."""
    made = TestClient(app)
    made.portal = client.portal  # one event loop, as a process of the service has
    assert made.post("/login", data={"key": token}, follow_redirects=False).status_code == 303
    return made


@pytest.fixture
def send_form(browser: TestClient) -> Callable[..., Any]:
    """Send a form of a page, as its button does, with the token that stands in it."""

    def send(page: str, action: str, **fields: str) -> Any:
        found = re.search(r'name="token" value="(\w+)"', browser.get(page).text)
        assert found is not None
        return browser.post(action, data={"token": found[1], **fields}, follow_redirects=False)

    return send


@pytest.fixture
def add_result(services: Services) -> Callable[..., str]:
    """Give a job a file of its evaluation, as its worker does."""

    def add(job_id: str, kind: str, content: bytes, *, step: int = 0, filename: str = "report.json") -> str:
        key = f"jobs/{job_id}/{kind}-{step}"
        info = services.store.put_stream(key, io.BytesIO(content))
        with services.database.write() as session:
            file = ResultFile(tenant_id="default", subject_id=job_id, kind=kind, step=step, filename=filename, key=key)
            file.bytes, file.sha256, file.content_type = info.bytes, info.sha256 or "", "image/png"
            file.created_at = time.time()
            session.add(file)
            session.flush()
            return file.id

    return add


@pytest.fixture
def stranger(services: Services) -> dict[str, str]:
    """The headers of another tenant."""
    with services.database.write() as session:
        _, other = keys.create(session, tenant_id="other", name="stranger")
    return {"authorization": f"Bearer {other}"}


@pytest.fixture
def add_file(client: TestClient) -> Callable[..., str]:
    def send(content: bytes = b"zip", filename: str = "digits.zip") -> str:
        answer = client.post("/v1/files", files={"file": (filename, content)}, data={"purpose": "fine-tune"})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    return send


@pytest.fixture
def settle(services: Services) -> Callable[..., None]:
    """End a data set's validation, as the worker does."""

    def end(dataset_id: str, status: DatasetStatus = DatasetStatus.READY, **fields: Any) -> None:
        with services.database.write() as session:
            dataset = session.get_one(Dataset, dataset_id)
            dataset.set_status(status)
            dataset.settled_at = time.time()
            dataset.num_items, dataset.class_names = 20, ["0", "1"]
            for name, value in fields.items():
                setattr(dataset, name, value)
            dataset_settled(session, dataset)

    return end


@pytest.fixture
def ready(add_file: Callable[..., str], settle: Callable[..., None]) -> str:
    """A data set that jobs can use."""
    dataset_id = add_file()
    settle(dataset_id)
    return dataset_id


@pytest.fixture
def add_job(client: TestClient, ready: str) -> Callable[..., dict[str, Any]]:
    def send(**fields: Any) -> dict[str, Any]:
        answer = client.post("/v1/fine_tuning/jobs", json={"model": "tiny-dit", "training_file": ready, **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()

    return send


@pytest.fixture
def compare(client: TestClient, ready: str) -> Callable[..., Any]:
    """Ask for a comparison of two methods over two seeds; `...` leaves a field out."""
    methods = [
        {"name": "plain", "method": {"type": "supervised"}},
        {"name": "diff", "method": {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"tau": 0.5}}}},
    ]

    def send(**fields: Any) -> Any:
        body = {"model": "tiny-dit", "training_file": ready, "methods": methods, "seeds": [0, 1], **fields}
        return client.post("/v1/comparisons", json={name: value for name, value in body.items() if value is not ...})

    return send


@pytest.fixture
def rows(services: Services) -> Callable[[Callable[[Session], Any]], Any]:
    """Do something to the rows, in one unit of work."""

    def run(work: Callable[[Session], Any]) -> Any:
        with services.database.write() as session:
            return work(session)

    return run


@pytest.fixture
def set_job(services: Services) -> Callable[..., None]:
    def run(job_id: str, **fields: Any) -> None:
        with services.database.write() as session:
            job = session.get_one(Job, job_id)
            for name, value in fields.items():
                setattr(job, name, value)

    return run


def _assert_problem(answer: Any, status: int, code: str, *, param: str | None = None) -> dict[str, Any]:
    """The one shape of errors."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == body["error"]["code"] == code, body
    assert body["status"] == status
    assert body["detail"] == body["error"]["message"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["error"]["param"] == param
    return body


@pytest.fixture
def assert_problem() -> Callable[..., dict[str, Any]]:
    return _assert_problem
