"""`Idempotency-Key`: a POST that is sent again takes effect once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from api.deps import Services
from api.errors import NotYetError
from api.idempotency import in_flight, repository
from api.idempotency.models import IdempotencyKey
from api.jobs.models import Job

pytestmark = pytest.mark.both_databases
JOBS = "/v1/fine_tuning/jobs"


def count(services: Services, kind: type) -> int:
    with services.database.read() as session:
        return session.scalar(select(func.count()).select_from(kind)) or 0


@pytest.mark.parametrize("again", ["once-1", '"once-1"', " once-1 "])
def test_the_same_request_gets_the_same_answer(client: TestClient, services: Services, ready: str, again: str) -> None:
    body = {"model": "tiny-dit", "training_file": ready}
    first = client.post(JOBS, json=body, headers={"Idempotency-Key": "once-1"})
    second = client.post(JOBS, json=dict(reversed(body.items())), headers={"Idempotency-Key": again})
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert count(services, Job) == 1


def test_parallel_requests_make_one_job(client: TestClient, services: Services, ready: str) -> None:
    body = {"model": "tiny-dit", "training_file": ready}

    def send(_: int) -> Any:
        return client.post(JOBS, json=body, headers={"Idempotency-Key": "all-at-once"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    done = [answer for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer not in done:  # the first one took longer than the others wait
            assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
            assert "x-should-retry" not in answer.headers
    done.append(send(0))
    assert len({answer.json()["id"] for answer in done}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in done) == 1
    assert count(services, Job) == 1


def test_of_equal_requests_one_goes_at_a_time_and_who_waits_too_long_is_sent_away_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "PATIENCE_S", 0.05)

    async def send() -> None:
        flight = in_flight.InFlight()
        async with flight.alone("a"):
            async with flight.alone("b"):
                pass  # another place is free
            with pytest.raises(NotYetError) as caught:
                async with flight.alone("a"):
                    pytest.fail("there were two at once")
        assert (caught.value.code, caught.value.retry_after_s) == ("idempotency_key_in_use", 1)
        async with flight.alone("a"):
            pass  # it is free again

    anyio.run(send)


def test_another_body_is_refused(
    client: TestClient, services: Services, ready: str, assert_problem: Callable[..., Any]
) -> None:
    headers = {"Idempotency-Key": "mine"}
    client.post(JOBS, json={"model": "tiny-dit", "training_file": ready}, headers=headers)
    answer = client.post(JOBS, json={"model": "tiny-dit", "training_file": ready, "seed": 1}, headers=headers)
    assert_problem(answer, 422, "idempotency_key_reused")
    assert count(services, Job) == 1


def test_a_refused_request_leaves_the_key_free(client: TestClient, services: Services, ready: str) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"model": "tiny-dit", "training_file": "ds_none"}
    assert client.post(JOBS, json=body, headers=headers).status_code == 422
    assert client.post(JOBS, json={**body, "training_file": ready}, headers=headers).status_code == 200
    assert count(services, IdempotencyKey) == 1


def test_keys_belong_to_a_tenant_and_a_route(
    client: TestClient, ready: str, stranger: dict[str, str], services: Services
) -> None:
    headers = {"Idempotency-Key": "shared"}
    first = client.post(JOBS, json={"model": "tiny-dit", "training_file": ready}, headers=headers)
    other = client.post("/v1/retention_sets", json={"model": "tiny-dit"}, headers=headers)
    assert first.status_code == other.status_code == 200
    theirs = client.post("/v1/retention_sets", json={"model": "tiny-dit"}, headers={**headers, **stranger})
    assert "idempotent-replayed" not in theirs.headers
    assert count(services, IdempotencyKey) == 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/retention_sets", {"model": "tiny-dit"}),
        ("/v1/uploads", {"filename": "a.zip", "bytes": 3, "purpose": "fine-tune"}),
    ],
)
def test_other_things_are_made_once_too(client: TestClient, path: str, body: dict[str, Any]) -> None:
    answers = [client.post(path, json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"


def test_a_comparison_is_made_once(client: TestClient, ready: str) -> None:
    methods = [{"name": name, "method": {"type": "supervised"}} for name in ("a", "b")]
    body = {"model": "tiny-dit", "training_file": ready, "methods": methods, "seeds": [0]}
    first, second = (client.post("/v1/comparisons", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json() == second.json()


@pytest.mark.parametrize("key", ["", "two words", '"', "x" * 256, "ä"])
def test_what_is_no_key_is_refused(client: TestClient, ready: str, key: str) -> None:
    body = {"model": "tiny-dit", "training_file": ready}
    answer = client.post(JOBS, json=body, headers={"Idempotency-Key": key.encode()})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


def test_keys_are_forgotten_in_the_end(client: TestClient, services: Services, ready: str) -> None:
    for key in ("old", "young"):
        body = {"model": "tiny-dit", "training_file": ready}
        client.post(JOBS, json=body, headers={"Idempotency-Key": key})
    with services.database.write() as session:
        aged = update(IdempotencyKey).where(IdempotencyKey.key == "old")
        session.execute(aged.values(created_at=time.time() - 1000))
    with services.database.write() as session:
        assert repository.forget(session, older_than_s=500) == 1
    assert count(services, IdempotencyKey) == 1
