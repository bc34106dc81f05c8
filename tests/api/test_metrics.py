from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from starlette.testclient import TestClient

from api.deps import Services
from api.logs.models import LogChunk
from api.metrics import HTTP_SECONDS, WorkInDatabase, serve_metrics
from api.work import service as work
from api.work.states import WorkKind
from tests.servers import free_port


def test_they_are_not_on_the_api_itself(client: TestClient) -> None:
    assert client.get("/metrics").status_code == 404


def test_requests_are_measured_by_route(client: TestClient) -> None:
    labels = {"method": "GET", "route": "/v1/fine_tuning/jobs/{job_id}", "status": "404"}
    name = "difftune_http_request_seconds_count"
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    client.get("/v1/fine_tuning/jobs/ftjob_none")
    assert REGISTRY.get_sample_value(name, labels) == before + 1


def test_the_time_that_requests_take_is_told_from_five_milliseconds_to_two_minutes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 1e6)  # of a machine that has run for long
    route = {"method": "GET", "route": "/v1/models", "status": "200"}
    name = "difftune_http_request_seconds"
    before = REGISTRY.get_sample_value(f"{name}_sum", route) or 0.0
    client.get("/v1/models")
    assert 0 < (REGISTRY.get_sample_value(f"{name}_sum", route) or 0.0) - before < 60
    (samples,) = (metric.samples for metric in HTTP_SECONDS.collect())
    bounds = [each.labels["le"] for each in samples if route.items() <= each.labels.items() and "le" in each.labels]
    told = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "120.0"]
    assert bounds == [*told, "+Inf"]


def test_waiting_work_is_counted_when_asked(services: Services) -> None:
    with services.database.write() as session:
        for number in range(3):
            work.enqueue(session, WorkKind.VALIDATE_DATASET, f"ds_{number}", tenant_id="t").created_at -= 60
    registry = CollectorRegistry()
    registry.register(WorkInDatabase(services.database))
    text = generate_latest(registry).decode()
    assert 'difftune_work_items{kind="validate_dataset",slot="cpu",state="queued"} 3.0' in text
    oldest = registry.get_sample_value("difftune_work_oldest_seconds", {"kind": "validate_dataset", "slot": "cpu"})
    assert oldest == pytest.approx(60, abs=30)


def test_they_are_served_on_a_port_of_their_own(services: Services) -> None:
    port = free_port()
    serve_metrics(services.settings.model_copy(update={"metrics_port": port}))
    answer = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    assert "difftune_http_request_seconds" in answer.text


@pytest.fixture
def talkative(add_job: Callable[..., dict[str, Any]], services: Services) -> str:
    job_id: str = add_job()["id"]
    with services.database.write() as session:
        for attempt, number in ((1, 0), (1, 1), (2, 0)):
            text = f"{attempt}.{number}\n"
            session.add(LogChunk(job_id=job_id, attempt=attempt, number=number, text=text, created_at=time.time()))
    return job_id


def test_logs_of_a_job_page_by_page(client: TestClient, talkative: str) -> None:
    url = f"/v1/fine_tuning/jobs/{talkative}/logs"
    first = client.get(url, params={"limit": 2}).json()
    assert [piece["text"] for piece in first["data"]] == ["1.0\n", "1.1\n"]
    assert first["has_more"] is True
    second = client.get(url, params={"after": first["last_id"]}).json()
    assert [(piece["attempt"], piece["text"]) for piece in second["data"]] == [(2, "2.0\n")]
    assert [p["text"] for p in client.get(url, params={"attempt": 2}).json()["data"]] == ["2.0\n"]
    assert client.get(url, headers={"accept": "text/plain"}).text == "1.0\n1.1\n2.0\n"


def test_logs_are_for_the_job_s_owner(client: TestClient, talkative: str, stranger: dict[str, str]) -> None:
    url = f"/v1/fine_tuning/jobs/{talkative}/logs"
    assert client.get(url, headers=stranger).status_code == 404
    assert client.get(url, params={"after": "log_x_1_1"}).json()["code"] == "invalid_cursor"
