"""Every POST takes an `Idempotency-Key`: sent again it does nothing, and answers as before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.deps import Services
from api.idempotency import repository
from api.idempotency.models import IdempotencyKey
from api.storage import LocalStore
from api.uploads.models import UploadPart
from tests.api.walking import operations

Problem = Callable[..., dict[str, Any]]
JOBS = "/v1/fine_tuning/jobs"
FLOOR_POSTS = 18
KEY = {"Idempotency-Key": "once"}


def count(services: Services, kind: type) -> int:
    with services.database.read() as session:
        return session.scalar(select(func.count()).select_from(kind)) or 0


def stored(services: Services) -> int:
    assert isinstance(services.store, LocalStore)
    return sum(path.is_file() for path in services.store.root.rglob("*"))


def test_every_post_declares_the_header_as_it_is(app: FastAPI, client: TestClient, assert_problem: Problem) -> None:
    posts = [operation for operation in operations(app) if operation.method == "POST"]
    for operation in posts:
        [header] = [entry for entry in operation.document["parameters"] if entry["name"] == "Idempotency-Key"]
        [schema] = [member for member in header["schema"]["anyOf"] if member["type"] == "string"]
        assert "{1,255}" in schema["pattern"]
        assert not header["required"]
        for wrong in ("", "a b", "x" * 256, '"'):
            answer = client.post(operation.url, headers={"Idempotency-Key": wrong}, json={})
            if operation.body is None:
                assert_problem(answer, 400, "invalid_idempotency_key", param=answer.json()["error"]["param"])
            assert 400 <= answer.status_code < 500
    assert len(posts) >= FLOOR_POSTS


def test_a_file_that_is_sent_again_is_one_data_set(
    client: TestClient, services: Services, assert_problem: Problem
) -> None:
    def send(content: bytes = b"zip", name: str = "a.zip", **fields: str) -> Any:
        form = {"files": {"file": (name, content)}, "data": {"purpose": "fine-tune", **fields}}
        return client.post("/v1/files", **form, headers=KEY)

    first, second = send(), send()
    assert (first.json(), second.headers["idempotent-replayed"]) == (second.json(), "true")
    assert (count(services, Dataset), stored(services)) == (1, 1)
    settings = ({"on_bad_files": "skip"}, {"max_skipped_share": "0.5"}, {"splits": "train"})
    for other in (send(content=b"zap"), send(name="b.zip"), *(send(**fields) for fields in settings)):
        assert_problem(other, 422, "idempotency_key_reused")
    assert (count(services, Dataset), stored(services)) == (1, 1)


def test_parts_and_what_becomes_of_them(client: TestClient, services: Services, assert_problem: Problem) -> None:
    upload = client.post("/v1/uploads", json={"filename": "a", "bytes": 6, "purpose": "fine-tune"}).json()["id"]
    url = f"/v1/uploads/{upload}"

    def part(content: bytes = b"abc") -> Any:
        return client.post(f"{url}/parts", files={"data": content}, headers=KEY)

    sent, again = part(), part()
    assert (sent.json(), again.headers["idempotent-replayed"]) == (again.json(), "true")
    assert_problem(part(b"abd"), 422, "idempotency_key_reused")
    links = [client.post(f"{url}/parts/presign", json={"bytes": 3}, headers=KEY).json() for _ in range(2)]
    assert links[0] == links[1]
    renewed = [client.post(f"{url}/parts/{links[0]['id']}/presign", headers=KEY).json() for _ in range(2)]
    assert renewed[0] == renewed[1]
    assert (count(services, UploadPart), stored(services)) == (2, 1)
    assert client.put(renewed[0]["url"], content=b"def").status_code == 200
    body = {"part_ids": [sent.json()["id"], links[0]["id"]]}
    done = [client.post(f"{url}/complete", json=body, headers=KEY).json() for _ in range(2)]
    assert done[0] == done[1]
    assert done[0]["status"] == "completed"
    late = part()  # its answer was lost; the upload is complete by now
    assert (late.json(), stored(services)) == (sent.json(), 2)


@pytest.mark.parametrize("verbs", [("cancel",), ("pause", "resume", "pause", "cancel")])
def test_verbs(client: TestClient, add_job: Callable[..., Any], verbs: tuple[str, ...]) -> None:
    job = add_job()["id"]
    for number, verb in enumerate(verbs):
        headers = {"Idempotency-Key": f"{verb}-{number}"}
        first, second = (client.post(f"{JOBS}/{job}/{verb}", headers=headers) for _ in range(2))
        assert (first.status_code, second.status_code, first.json()) == (200, 200, second.json())
        assert second.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("url", "body", "other"),
    [
        ("retention_sets", {"model": "tiny-dit"}, {"seed": 7}),
        ("uploads", {"filename": "a", "bytes": 6, "purpose": "fine-tune"}, {"filename": "b"}),
    ],
)
def test_a_key_is_for_one_body(
    client: TestClient, assert_problem: Problem, url: str, body: dict[str, Any], other: dict[str, Any]
) -> None:
    assert client.post(f"/v1/{url}", json=body, headers=KEY).is_success
    assert_problem(client.post(f"/v1/{url}", json=body | other, headers=KEY), 422, "idempotency_key_reused")


def test_what_else_is_cancelled(client: TestClient, compare: Callable[..., Any]) -> None:
    made = client.post("/v1/retention_sets", json={"model": "tiny-dit"}).json()["id"]
    upload = client.post("/v1/uploads", json={"filename": "a", "bytes": 6, "purpose": "fine-tune"}).json()["id"]
    for url in (f"retention_sets/{made}", f"comparisons/{compare().json()['id']}", f"uploads/{upload}"):
        first, second = (client.post(f"/v1/{url}/cancel", headers=KEY) for _ in range(2))
        assert (first.status_code, second.status_code, first.json()) == (200, 200, second.json())


def test_old_keys_are_forgotten_and_new_ones_kept(client: TestClient, services: Services) -> None:
    body = {"filename": "a", "bytes": 3, "purpose": "fine-tune"}
    ages = {"older": 1001, "old": 501, "new": 499, "newest": 0}
    made = {key: client.post("/v1/uploads", json=body, headers={"Idempotency-Key": key}).json() for key in ages}
    with services.database.write() as session:
        for key, age_s in ages.items():
            aged = update(IdempotencyKey).where(IdempotencyKey.key == key)
            session.execute(aged.values(created_at=time.time() - age_s))
    with services.database.write() as session:
        assert repository.forget(session, older_than_s=500) == 2
    with services.database.read() as session:
        assert set(session.scalars(select(IdempotencyKey.key))) == {"new", "newest"}
    again = {key: client.post("/v1/uploads", json=body, headers={"Idempotency-Key": key}).json() for key in ages}
    assert {key for key in ages if again[key] == made[key]} == {"new", "newest"}
