"""Following jobs: one reader for all who listen, nothing lost, nobody held up."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from starlette.testclient import TestClient

from api.deps import Services
from api.events import following
from api.jobs.models import Job
from api.keys import service as keys
from tests.api.serving import connected, serving
from tests.api.test_events import JOBS, parsed, say

pytestmark = pytest.mark.both_databases


def test_one_reader_asks_for_all_who_listen(
    client: TestClient, add_job: Callable[..., Any], services: Services
) -> None:
    job_id = add_job()["id"]
    answers: list[list[Any]] = []
    follow = [
        threading.Thread(target=lambda: answers.append(parsed(client.get(f"{JOBS}/{job_id}/events?stream=1").text)))
        for _ in range(25)
    ]
    for thread in follow:
        thread.start()
    time.sleep(1.0)
    asked: list[str] = []
    event.listen(services.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    time.sleep(1.5)
    assert 1 <= len(asked) <= 8, "two looks a second, however many listen"
    client.post(f"{JOBS}/{job_id}/cancel")
    for thread in follow:
        thread.join()
    assert len(answers) == 25
    assert all(answer == answers[0] for answer in answers)


def test_who_comes_when_all_is_quiet_goes_on_from_where_the_reader_began() -> None:
    """A job of whose many events none is in memory yet: what came before is read again, nothing is asked for twice."""
    watched = following.Watched("ftjob_1")
    assert (watched.known, watched.after(0)) == (0, [])
    watched.take(following.News("t", since=7, events=[], is_over=False))
    assert (watched.known, watched.after(6), watched.after(7)) == (7, None, [])
    watched.take(following.News("t", since=7, events=[(8, b"a"), (9, b"b")], is_over=False))
    assert (watched.known, watched.after(7), watched.after(8)) == (9, [(8, b"a"), (9, b"b")], [(9, b"b")])


def test_older_events_than_are_kept_in_memory_are_read_again(
    client: TestClient, add_job: Callable[..., Any], rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "KEPT", 50)
    monkeypatch.setattr(following, "_PAGE", 20)
    job_id = add_job()["id"]
    rows(lambda session: [say(session, job_id, str(number)) for number in range(200)])
    client.post(f"{JOBS}/{job_id}/cancel")
    url = f"{JOBS}/{job_id}/events"
    listed = [event["id"] for event in client.get(url, params={"order": "asc", "limit": 100}).json()["data"]]
    for number in (0, 7, 60):
        headers = {"last-event-id": listed[number]}
        streamed = [event["id"] for event in parsed(client.get(f"{url}?stream=1", headers=headers).text)]
        assert streamed[: 99 - number] == listed[number + 1 :]
        assert len(streamed) == len(set(streamed)) == 200 + 4 - 1 - number


def test_a_listener_that_does_not_read_holds_up_nobody_and_misses_nothing(
    app: FastAPI, token: str, add_job: Callable[..., Any], rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "KEPT", 50)
    job_id = add_job()["id"]
    url = f"{JOBS}/{job_id}/events?stream=1"
    asked = f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    with serving(app) as port, connected(port, asked.encode()) as slow:
        here, key = f"http://127.0.0.1:{port}", {"authorization": f"Bearer {token}"}
        quickly: list[Any] = []
        quick = threading.Thread(target=lambda: quickly.append(httpx2.get(f"{here}{url}", headers=key, timeout=60)))
        quick.start()
        for _ in range(4):  # together more than the buffers between us hold
            rows(lambda session: [say(session, job_id, "x" * 3900) for _ in range(600)])
        httpx2.post(f"{here}{JOBS}/{job_id}/cancel", headers=key)
        quick.join()
        received = b"".join(iter(lambda: slow.recv(1 << 16), b""))
    seen = re.findall(rb"id: (evt_\S+)", received)
    assert len(seen) == 2404
    assert seen == sorted(set(seen))
    assert [event["id"].encode() for event in parsed(quickly[0].text)] == seen


def test_a_listener_whose_key_is_revoked_is_ended(
    client: TestClient, token: str, add_job: Callable[..., Any], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "KEYS_S", 0.2)
    job_id = add_job()["id"]

    def revoke() -> None:
        time.sleep(0.5)
        with services.database.write() as session:
            keys.revoke(session, tenant_id="default", key_id=keys.id_in(token))

    thread = threading.Thread(target=revoke)
    thread.start()
    began = time.monotonic()
    assert len(parsed(client.get(f"{JOBS}/{job_id}/events?stream=1").text)) == 3
    assert time.monotonic() - began < 10, "not when the stream has something to say again"
    thread.join()


def test_a_deleted_job_ends_its_streams_and_an_unknown_one_has_none(
    client: TestClient, add_job: Callable[..., Any], rows: Any, assert_problem: Callable[..., Any]
) -> None:
    job_id = add_job()["id"]
    thread = threading.Thread(target=lambda: (time.sleep(0.5), rows(lambda s: s.delete(s.get_one(Job, job_id)))))
    thread.start()
    assert parsed(client.get(f"{JOBS}/{job_id}/events?stream=1").text)
    thread.join()
    assert_problem(client.get(f"{JOBS}/{job_id}/events?stream=1"), 404, "job_not_found")
