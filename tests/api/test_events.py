from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs import events
from api.jobs.models import Job
from api.jobs.moves import move
from api.jobs.states import JobStatus

pytestmark = pytest.mark.both_databases

JOBS = "/v1/fine_tuning/jobs"


def say(session: Session, job_id: str, message: str) -> None:
    events.append(session, session.get_one(Job, job_id), "message", message)


def parsed(text: str) -> list[dict[str, str]]:
    """Server-sent events without comments."""
    blocks = [block for block in text.split("\n\n") if block.strip() and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_events_are_listed_newest_first_in_pages(client: TestClient, add_job: Callable[..., Any]) -> None:
    job_id = add_job()["id"]
    url = f"{JOBS}/{job_id}/events"
    everything = client.get(url).json()["data"]
    assert [event["message"] for event in everything] == [
        "Files validated, moving job to queued state",
        f"Validating training file: {client.get(f'{JOBS}/{job_id}').json()['training_file']}",
        f"Created fine-tuning job: {job_id}",
    ]
    assert {event["object"] for event in everything} == {"fine_tuning.job.event"}
    page = client.get(url, params={"limit": 2}).json()
    assert page["has_more"] is True
    rest = client.get(url, params={"after": page["last_id"]}).json()
    assert page["data"] + rest["data"] == everything
    ascending = client.get(url, params={"order": "asc", "after": everything[-1]["id"]}).json()["data"]
    assert ascending == everything[1::-1]


@pytest.mark.parametrize("number", ["00000004", "99999999", "0000000003"])
def test_an_event_that_is_not_there_yet_is_no_place_to_go_on_from(
    client: TestClient, add_job: Callable[..., Any], assert_problem: Callable[..., Any], number: str
) -> None:
    """A stream after it would wait in silence. The last of three events is such a place."""
    job_id = add_job()["id"]
    id_ = f"evt_{job_id.removeprefix('ftjob_')}_{number}"
    url = f"{JOBS}/{job_id}/events"
    if int(number) == 3:
        assert client.get(url, params={"after": id_}).json()["data"] != []
        return
    answer = client.get(f"{url}?stream=true", headers={"last-event-id": id_})
    assert_problem(answer, 422, "invalid_cursor", param="last-event-id")
    for params in ({"after": id_}, {"after": id_, "stream": "true"}):
        assert_problem(client.get(url, params=params), 422, "invalid_cursor", param="after")


def test_a_cursor_of_another_job_is_refused(
    client: TestClient, add_job: Callable[..., Any], assert_problem: Callable[..., Any]
) -> None:
    first, second = add_job()["id"], add_job()["id"]
    cursor = client.get(f"{JOBS}/{first}/events").json()["last_id"]
    answer = client.get(f"{JOBS}/{second}/events", params={"after": cursor})
    assert_problem(answer, 422, "invalid_cursor", param="after")


def test_the_stream_follows_until_the_job_ends(
    client: TestClient, add_job: Callable[..., Any], services: Services
) -> None:
    job_id = add_job()["id"]

    def work() -> None:
        time.sleep(0.3)
        with services.database.write() as session:
            say(session, job_id, "while it streams")
        time.sleep(0.6)
        with services.database.write() as session:
            move(session, session.get_one(Job, job_id), JobStatus.CANCELLED, "the end")

    thread = threading.Thread(target=work)
    thread.start()
    answer = client.get(f"{JOBS}/{job_id}/events", headers={"accept": "text/event-stream"})
    thread.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    streamed = parsed(answer.text)
    listed = client.get(f"{JOBS}/{job_id}/events", params={"order": "asc"}).json()["data"]
    assert [json.loads(event["data"]) for event in streamed] == listed
    assert [event["id"] for event in streamed] == [event["id"] for event in listed]
    assert [event["event"] for event in streamed] == ["message", "status", "status", "message", "status"]
    assert listed[-1]["message"] == "the end"


def test_a_stream_resumes_after_the_last_event_seen(client: TestClient, add_job: Callable[..., Any]) -> None:
    job_id = add_job()["id"]
    client.post(f"{JOBS}/{job_id}/cancel")
    url = f"{JOBS}/{job_id}/events"
    ids = [event["id"] for event in client.get(url, params={"order": "asc"}).json()["data"]]
    streamed = parsed(client.get(url, params={"stream": "true"}, headers={"last-event-id": ids[1]}).text)
    assert [event["id"] for event in streamed] == ids[2:]
    nothing_left = client.get(url, params={"stream": "true", "after": ids[-1]}).text
    assert parsed(nothing_left) == []


def test_more_events_than_one_look_reads(client: TestClient, add_job: Callable[..., Any], rows: Any) -> None:
    job_id = add_job()["id"]
    rows(lambda session: [say(session, job_id, str(number)) for number in range(450)])
    client.post(f"{JOBS}/{job_id}/cancel")
    streamed = parsed(client.get(f"{JOBS}/{job_id}/events?stream=1").text)
    assert [json.loads(event["data"])["message"] for event in streamed][3:-1] == [str(n) for n in range(450)]


def test_waiting_streams_hold_no_connection(
    client: TestClient, add_job: Callable[..., Any], services: Services
) -> None:
    job_id = add_job()["id"]
    answers: list[str] = []

    def follow() -> None:
        answers.append(client.get(f"{JOBS}/{job_id}/events?stream=1").text)

    threads = [threading.Thread(target=follow) for _ in range(20)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    held = []
    while time.monotonic() < deadline and len(held) < 20:
        held.append(services.database.engine.pool.checkedout())  # type: ignore[attr-defined]  # of a pool
        time.sleep(0.05)
    client.post(f"{JOBS}/{job_id}/cancel")
    for thread in threads:
        thread.join()
    assert min(held) == 0
    assert len({len(parsed(text)) for text in answers}) == 1
