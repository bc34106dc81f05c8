"""Jobs are answered as they are: whoever wrote last, the next answer says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs import lifecycle, moves
from api.jobs.models import Job
from api.jobs.schemas import JobOut
from api.storage import StoredFile
from api.subjects import files as result_files
from api.subjects.files import Result
from api.work import repository as work
from api.work.models import WorkItem
from api.work.states import Slot, WorkKind

pytestmark = pytest.mark.both_databases
JOBS = "/v1/fine_tuning/jobs"
REPORT = Result("k", "report.html", 3, "0" * 64, "text/html", kind="report_html", step=5)


def claimed(session: Session) -> WorkItem:
    item = work.claim(session, kinds=[WorkKind.TRAIN], slot=Slot.CPU, worker_id="w", lease_s=60)
    item = item or work.claim(session, kinds=[WorkKind.TRAIN], slot=Slot.GPU, worker_id="w", lease_s=60)
    assert item is not None
    return item


def saved(session: Session, job: Job) -> None:
    files = [StoredFile("k", "model.safetensors", 1, "0" * 64)]
    lifecycle.checkpoint_saved(session, job, fence=1, step=5, name="step-5", files=files)


WRITES: dict[str, tuple[Callable[[Session, Job], object], Callable[[Any], Any], Any]] = {
    "status": (lambda s, j: lifecycle.started(s, j, attempt=1), lambda o: o["status"], "running"),
    "phase": (lambda s, j: lifecycle.entered_phase(s, j, "caching"), lambda o: o["status_details"]["phase"], "caching"),
    "step": (
        lambda s, j: lifecycle.progressed(
            s, j, phase="training", done=7, total=9, steps_per_second=1.5, announce=False
        ),
        lambda o: (o["status_details"]["step"], o["status_details"]["total"], o["status_details"]["steps_per_second"]),
        (7, 9, 1.5),
    ),
    "attempt": (
        lambda s, _: work.begin_attempt(s, claimed(s), start_step=3),
        lambda o: [(a["attempt"], a["worker_id"], a["start_step"], a["reason"]) for a in o["attempts"]],
        [(1, "worker_1", 3, None)],
    ),
    "attempt that ended": (
        lambda s, _: work.requeue(s, claimed(s), "worker_lost", end_step=4),
        lambda o: [(a["end_step"], a["reason"], a["ended_at"] is not None) for a in o["attempts"]],
        [(4, "worker_lost", True)],
    ),
    "resume": (
        lambda s, _: work.note_resume(s, work.lease_of(claimed(s)), ["torch"]),
        lambda o: [(a["resumed"], a["changed"]) for a in o["attempts"]],
        [("continued", ["torch"])],
    ),
    "file": (lambda s, j: result_files.add(s, j, [REPORT]), lambda o: len(o["result_files"]), 1),
    "checkpoint": (saved, lambda o: o["status_details"]["latest_checkpoint"][:5], "ckpt_"),
    "failure": (
        lambda s, j: (lifecycle.started(s, j, attempt=1), moves.failed(s, j, code="c", message="m", param=None)),
        lambda o: (o["status"], o["error"]),
        ("failed", {"code": "c", "message": "m", "param": None}),
    ),
}


@pytest.mark.parametrize("kind", WRITES)
def test_what_a_worker_has_written_is_in_the_next_answer(
    client: TestClient, add_job: Callable[..., Any], rows: Callable[..., Any], kind: str
) -> None:
    job_id, (write, read, right) = add_job()["id"], WRITES[kind]
    before = client.get(f"{JOBS}/{job_id}").json()
    assert before["status_details"]["queue_position"] == 1
    rows(lambda session: write(session, session.get_one(Job, job_id)))
    answer = client.get(f"{JOBS}/{job_id}").json()
    assert read(answer) == right
    assert client.get(JOBS).json()["data"] == [answer]
    assert set(answer) == set(JobOut.model_fields)
    assert JobOut.model_validate(answer).model_dump(mode="json") == answer, "as it is described"


def test_a_verb_is_in_the_next_answer(client: TestClient, add_job: Callable[..., Any]) -> None:
    first, second = add_job()["id"], add_job()["id"]
    assert client.get(f"{JOBS}/{second}").json()["status_details"]["queue_position"] == 2
    assert client.post(f"{JOBS}/{first}/pause").json()["status"] == "paused"
    paused = client.get(f"{JOBS}/{first}").json()
    assert (paused["status"], paused["status_details"]["slot_released"]) == ("paused", True)
    assert client.get(f"{JOBS}/{second}").json()["status_details"]["queue_position"] == 1
    client.post(f"{JOBS}/{first}/cancel")
    assert client.delete(f"{JOBS}/{first}").status_code == 200
    assert client.get(f"{JOBS}/{first}").status_code == 404


def test_a_config_that_was_changed_is_answered_as_it_is_now(
    client: TestClient, add_job: Callable[..., Any], set_job: Callable[..., None]
) -> None:
    job = add_job(seed=1)
    set_job(job["id"], config={**{name: job[name] for name in ("model", "method", "evaluation")}, "seed": 2})
    assert client.get(f"{JOBS}/{job['id']}").json()["seed"] == 2


def test_a_job_is_answered_as_it_was_when_it_was_made(client: TestClient, add_job: Callable[..., Any]) -> None:
    made = add_job(metadata={"a": "b"}, suffix="s")
    assert client.get(f"{JOBS}/{made['id']}").json() == made


def test_statuses_that_are_asked_at_once_are_read_together_each_for_its_own_tenant(
    app: FastAPI, services: Services, token: str, stranger: dict[str, str], add_job: Callable[..., Any]
) -> None:
    jobs = [add_job()["id"] for _ in range(3)]
    asked: list[str] = []
    event.listen(services.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    answers: list[tuple[str, Any]] = []

    async def one(client: Any, job_id: str, headers: dict[str, str]) -> None:
        answers.append((job_id, await client.get(f"{JOBS}/{job_id}", headers=headers)))

    async def story() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            for headers in (ours, stranger):
                await client.get(JOBS, headers=headers)
            asked.clear()
            async with anyio.create_task_group() as group:
                for headers in [ours] * 10 + [stranger]:
                    for job_id in [*jobs, "ftjob_none"]:
                        group.start_soon(one, client, job_id, headers)

    ours = {"authorization": f"Bearer {token}"}
    anyio.run(story)
    assert sum("FROM jobs" in statement for statement in asked) <= 3
    found = [answer.json()["id"] for job_id, answer in answers if answer.status_code == 200 and job_id in jobs]
    assert sorted(found) == sorted(jobs * 10)
    assert sum(answer.status_code == 404 for _, answer in answers) == 10 + 4


def test_statuses_are_read_again_only_where_somebody_has_written(
    client: TestClient,
    services: Services,
    add_job: Callable[..., Any],
    set_job: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.coalescing._KNOWN_S", 60.0)
    job_id = add_job()["id"]
    asked: list[str] = []
    event.listen(services.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    for step in range(5):
        set_job(job_id, step=step)
        asked.clear()
        for _ in range(4):
            assert client.get(f"{JOBS}/{job_id}").json()["status_details"]["step"] == step
        assert sum("FROM jobs" in statement for statement in asked) == (1 if services.database.is_sqlite else 4)


def test_what_another_process_has_written_is_in_the_next_answer(
    client: TestClient, services: Services, add_job: Callable[..., Any]
) -> None:
    job_id = add_job()["id"]
    client.get(f"{JOBS}/{job_id}")
    code = "import sys; from sqlalchemy import create_engine, text; e = create_engine(sys.argv[1]).begin(); "
    code += "e.__enter__().execute(text('UPDATE jobs SET step = 41')); e.__exit__(None, None, None)"
    subprocess.run([sys.executable, "-c", code, services.database.url], check=True)
    assert client.get(f"{JOBS}/{job_id}").json()["status_details"]["step"] == 41


def test_an_error_while_many_are_answered_is_everybodys_and_the_next_are_answered(
    client: TestClient, services: Services, add_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object) -> None:
        raise OSError("gone")

    job_id = add_job()["id"]
    with monkeypatch.context() as broken:
        broken.setattr(services.units, "read_for_many", fail)
        assert client.get(f"{JOBS}/{job_id}").status_code == 500
    assert client.get(f"{JOBS}/{job_id}").status_code == 200


@pytest.mark.parametrize("job_id", ["a" * 4000, "ftjob_%00", "%F0%9F%98%80", "a'b", "..%2F"])
def test_an_id_that_is_none_is_not_asked_for(client: TestClient, job_id: str) -> None:
    assert client.get(f"{JOBS}/{job_id}").status_code == 404
