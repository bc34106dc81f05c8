"""Many requests at once: none stops another, and none is answered with an error that time does not cure."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, func, select, text
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs.models import Job

pytestmark = pytest.mark.both_databases
JOBS = "/v1/fine_tuning/jobs"
FINE = {200, 409, 429, 503}


@pytest.fixture
def at_once(app: FastAPI, token: str) -> Callable[..., list[tuple[float, Any]]]:
    """Send requests all at once from within one event loop; the time that each took, and its answer."""

    def send(*calls: dict[str, Any]) -> list[tuple[float, Any]]:
        answers: list[tuple[float, Any]] = []

        async def one(client: Any, call: dict[str, Any]) -> None:
            began = time.monotonic()
            answer = await client.request(**call)
            answers.append((time.monotonic() - began, answer))

        async def story() -> None:
            headers = {"authorization": f"Bearer {token}"}
            made = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver", headers=headers)
            async with made as client, anyio.create_task_group() as group:
                for call in calls:
                    group.start_soon(one, client, call)

        anyio.run(story)
        return answers

    return send


def retrying(at_once: Callable[..., Any], calls: list[dict[str, Any]]) -> list[tuple[float, Any]]:
    """As clients that heed `Retry-After`: all answers, and no call is left over."""
    answers = []
    for _ in range(20):
        got = at_once(*calls)
        answers += got
        again = [answer for _, answer in got if "retry-after" in answer.headers]
        calls = calls[: len(again)]
        if not calls:
            return answers
        time.sleep(max(int(answer.headers["retry-after"]) for answer in again))
    pytest.fail(f"{len(calls)} calls never got through")


def test_a_burst_of_posts_gets_through_and_no_reader_waits_for_it(
    at_once: Callable[..., Any], services: Services, ready: str
) -> None:
    post = {"method": "POST", "url": JOBS, "json": {"model": "tiny-dit", "training_file": ready}}
    first = at_once(*[post] * 60, {"method": "GET", "url": JOBS})
    assert {answer.status_code for _, answer in first} <= FINE
    posts = [took for took, answer in first if answer.request.method == "POST"]
    assert next(took for took, answer in first if answer.request.method == "GET") < max(posts)
    refused = [answer for _, answer in first if answer.status_code != 200]
    rest = retrying(at_once, [post] * len(refused)) if refused else []
    assert {answer.status_code for _, answer in rest} <= FINE
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 60


def test_a_burst_with_one_key_makes_one_job(at_once: Callable[..., Any], services: Services, ready: str) -> None:
    body = {"model": "tiny-dit", "training_file": ready}
    post = {"method": "POST", "url": JOBS, "json": body, "headers": {"Idempotency-Key": "k"}}
    answers = [answer for _, answer in retrying(at_once, [post] * 60)]
    assert {answer.status_code for answer in answers} <= FINE
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 1
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_a_burst_of_verbs_on_one_job_ends_in_one_state(
    at_once: Callable[..., Any], add_job: Callable[..., Any]
) -> None:
    job = f"{JOBS}/{add_job()['id']}"
    verbs = [{"method": "POST", "url": f"{job}/{verb}"} for verb in ("pause", "resume", "cancel") * 17]
    answers = at_once(*verbs)
    assert {answer.status_code for _, answer in answers} <= FINE
    assert Counter(answer.status_code for _, answer in answers)[200] >= 1


def test_a_lock_that_another_process_holds_is_a_503_that_says_when_to_come_back(
    at_once: Callable[..., Any], services: Services, ready: str, assert_problem: Callable[..., Any]
) -> None:
    post = {"method": "POST", "url": JOBS, "json": {"model": "tiny-dit", "training_file": ready}}
    with services.database.write() as holder:
        lock = "SELECT 1" if services.database.is_sqlite else "LOCK TABLE jobs IN EXCLUSIVE MODE"
        holder.execute(text(lock))
        answers = at_once(*[post] * 12, {"method": "GET", "url": JOBS})
    for took, answer in answers:
        if answer.request.method == "POST":
            assert answer.status_code in {429, 503}
            assert_problem(answer, answer.status_code, answer.json()["code"])
            assert int(answer.headers["retry-after"]) >= 1
            assert took < 5, "each wait has an end of its own, a second long"
        else:
            assert answer.status_code == 200


def test_a_unit_of_work_is_begun_and_committed_in_one_thread(at_once: Callable[..., Any], services: Services) -> None:
    begun: list[int] = []
    committed: list[int] = []
    event.listen(services.database.engine, "begin", lambda _: begun.append(threading.get_ident()))
    event.listen(services.database.engine, "commit", lambda _: committed.append(threading.get_ident()))
    post = {"method": "POST", "url": "/v1/retention_sets", "json": {"model": "tiny-dit"}}
    [(_, answer)] = at_once(post)
    assert answer.status_code == 200
    assert committed[0] == begun[1], "after the key's look-up"
    assert threading.get_ident() not in begun


def test_a_request_needs_one_thread_once_its_key_is_known(
    client: TestClient, ready: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops: list[Any] = []
    run_sync = anyio.to_thread.run_sync

    async def counted(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        hops.append(function)
        return await run_sync(function, *args, **options)

    client.get(JOBS)
    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
    for path in (JOBS, f"/v1/files/{ready}", "/v1/datasets", "/v1/models", "/v1/fine_tuning/jobs/ftjob_none"):
        hops.clear()
        client.get(path)
        assert len(hops) == 1, path
    hops.clear()
    client.post("/v1/uploads", json={"filename": "a", "bytes": 3, "purpose": "fine-tune"})
    assert len(hops) == 1


def test_a_key_is_looked_up_once_for_all_requests_that_come_at_once(
    at_once: Callable[..., Any], services: Services
) -> None:
    asked: list[str] = []
    event.listen(services.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    answers = at_once(*[{"method": "GET", "url": "/v1/datasets"}] * 40)
    assert {answer.status_code for _, answer in answers} <= FINE
    assert sum("FROM api_keys" in statement for statement in asked) == 1
