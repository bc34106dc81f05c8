from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.deps import Services
from api.uploads import service
from api.uploads.models import Upload
from api.work.models import WorkItem

Problem = Callable[..., dict[str, Any]]
NAMED = {"filename": "digits.zip", "mime_type": "application/zip", "purpose": "fine-tune"}


@pytest.fixture
def open_upload(client: TestClient) -> Callable[[int], str]:
    def create(num_bytes: int) -> str:
        answer = client.post("/v1/uploads", json={**NAMED, "bytes": num_bytes})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    return create


@pytest.fixture
def send_part(client: TestClient) -> Callable[[str, bytes], dict[str, Any]]:
    def send(upload_id: str, content: bytes) -> dict[str, Any]:
        answer = client.post(f"/v1/uploads/{upload_id}/parts", files={"data": content})
        assert answer.status_code == 200, answer.text
        return answer.json()

    return send


def test_parts_in_any_order_become_a_data_set(
    client: TestClient, open_upload: Any, send_part: Any, services: Services
) -> None:
    first, second, third = (bytes([n]) * 100_000 for n in range(3))
    upload_id = open_upload(300_000)
    unused = send_part(upload_id, b"sent twice")
    later = send_part(upload_id, third)
    ids = [send_part(upload_id, first)["id"], send_part(upload_id, second)["id"], later["id"]]
    assert later["sha256"] == hashlib.sha256(third).hexdigest()
    answer = client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": ids, "md5": "A" * 32}).json()
    assert (answer["status"], answer["file"]["status"], answer["file"]["bytes"]) == ("completed", "uploaded", 300_000)
    file_id = answer["file"]["id"]
    assert client.get(f"/v1/files/{file_id}/content").content == first + second + third
    assert client.get(f"/v1/uploads/{upload_id}").json()["file"]["id"] == file_id
    with services.database.read() as session:
        dataset = session.get_one(Dataset, file_id)
        item = session.query(WorkItem).one()
    assert (dataset.expected_md5, dataset.status) == ("a" * 32, "validating")
    assert (item.kind, item.subject_id) == ("validate_dataset", file_id)
    assert not [info for info in services.store.list("uploads/") if unused["id"] in info.key]


def test_completing_again_gives_the_same_file(client: TestClient, open_upload: Any, send_part: Any) -> None:
    upload_id = open_upload(3)
    body = {"part_ids": [send_part(upload_id, b"abc")["id"]]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post(f"/v1/uploads/{upload_id}/complete", json=body), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["file"]["id"] for answer in answers}) == 1
    assert len(client.get("/v1/datasets").json()["data"]) == 1


def test_a_presigned_part_goes_to_the_store(client: TestClient, open_upload: Any) -> None:
    upload_id = open_upload(5)
    url = f"/v1/uploads/{upload_id}/parts"
    part = client.post(f"{url}/presign", json={"bytes": 5}).json()
    assert (part["object"], part["method"]) == ("upload.part", "PUT")
    assert [(p["id"], p["status"]) for p in client.get(url).json()["data"]] == [(part["id"], "awaited")]
    early = client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": [part["id"]]})
    assert (early.status_code, early.json()["code"]) == (409, "part_not_received")
    assert client.put(part["url"], content=b"hello", headers={"authorization": ""}).status_code == 200
    assert [(p["bytes"], p["status"]) for p in client.get(url).json()["data"]] == [(5, "received")]
    done = client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": [part["id"]]}).json()
    tampered = client.put(part["url"], content=b"HELLO")
    assert tampered.status_code == 200
    assert client.get(f"/v1/files/{done['file']['id']}/content").content == b"hello"


def test_parts_are_listed_in_pages(client: TestClient, open_upload: Any, send_part: Any) -> None:
    upload_id = open_upload(3)
    ids = [send_part(upload_id, b"x")["id"] for _ in range(3)]
    first = client.get(f"/v1/uploads/{upload_id}/parts", params={"limit": 2}).json()
    assert ([part["id"] for part in first["data"]], first["has_more"]) == (ids[:2], True)
    rest = client.get(f"/v1/uploads/{upload_id}/parts", params={"after": first["last_id"]}).json()
    assert [part["id"] for part in rest["data"]] == ids[2:]


def test_completion_checks_parts_and_size(
    client: TestClient, open_upload: Any, send_part: Any, assert_problem: Problem
) -> None:
    upload_id = open_upload(4)
    part = send_part(upload_id, b"abc")["id"]
    foreign = send_part(open_upload(4), b"abc")["id"]
    url = f"/v1/uploads/{upload_id}/complete"
    answer = client.post(url, json={"part_ids": [part, foreign]})
    assert assert_problem(answer, 422, "part_not_found", param="part_ids.1")["errors"][0]["pointer"] == "#/part_ids/1"
    answer = client.post(url, json={"part_ids": [part, part]})
    assert_problem(answer, 422, "part_not_found", param="part_ids.1")
    answer = client.post(url, json={"part_ids": [part]})
    body = assert_problem(answer, 422, "upload_size_mismatch", param="part_ids")
    assert "3 bytes" in body["detail"]
    answer = client.post(url, json={"part_ids": []})
    assert_problem(answer, 422, "invalid_value", param="part_ids")
    answer = client.post(url, json={"part_ids": [part], "md5": "xyz"})
    assert_problem(answer, 422, "invalid_value", param="md5")
    last = send_part(upload_id, b"d")["id"]
    assert client.post(url, json={"part_ids": [part, last]}).json()["status"] == "completed"


def test_a_part_that_is_too_large_is_refused(
    client: TestClient, open_upload: Any, services: Services, assert_problem: Problem
) -> None:
    upload_id = open_upload(1_000_000)
    answer = client.post(f"/v1/uploads/{upload_id}/parts", files={"data": b"x" * 200_001})
    assert assert_problem(answer, 413, "too_large", param="data")["max_bytes"] == 200_000
    assert list(services.store.list("")) == []
    assert client.get(f"/v1/uploads/{upload_id}/parts").json()["data"] == []


def test_far_more_parts_than_announced_are_refused(
    client: TestClient, open_upload: Any, send_part: Any, services: Services, assert_problem: Problem
) -> None:
    upload_id = open_upload(100_000)
    for _ in range(4):  # twice its size and a part more: answers get lost
        send_part(upload_id, b"x" * 100_000)
    answer = client.post(f"/v1/uploads/{upload_id}/parts", files={"data": b"x"})
    assert_problem(answer, 413, "too_large", param="data")
    assert len(list(services.store.list("uploads/"))) == 4


def test_a_part_that_cannot_be_of_the_file_is_refused(
    client: TestClient, open_upload: Any, services: Services, assert_problem: Problem
) -> None:
    url = f"/v1/uploads/{open_upload(10)}/parts"
    assert_problem(client.post(url, files={"data": b"x" * 11}), 413, "too_large", param="data")
    assert_problem(client.post(f"{url}/presign", json={"bytes": 11}), 413, "too_large", param="bytes")
    assert_problem(client.post(url, files={"data": b""}), 422, "empty_part", param="data")
    assert list(services.store.list("uploads/")) == []
    assert client.get(url).json()["data"] == []


def test_completing_again_otherwise_is_a_conflict(
    client: TestClient, open_upload: Any, send_part: Any, assert_problem: Problem
) -> None:
    upload_id = open_upload(2)
    url = f"/v1/uploads/{upload_id}/complete"
    first, second = (send_part(upload_id, content)["id"] for content in (b"a", b"b"))
    body = {"part_ids": [first, second], "md5": "A" * 32}
    file_id = client.post(url, json=body).json()["file"]["id"]
    for change, param in (({"part_ids": [second, first]}, "part_ids"), ({"md5": "b" * 32}, "md5")):
        assert_problem(client.post(url, json=body | change), 409, "upload_not_pending", param=param)
    for same in (body, {"part_ids": body["part_ids"]}, body | {"md5": "a" * 32}):
        assert client.post(url, json=same).json()["file"]["id"] == file_id


def test_a_cancelled_upload_takes_nothing_more(
    client: TestClient, open_upload: Any, send_part: Any, services: Services, assert_problem: Problem
) -> None:
    upload_id = open_upload(3)
    part = send_part(upload_id, b"abc")["id"]
    assert client.post(f"/v1/uploads/{upload_id}/cancel").json()["status"] == "cancelled"
    assert list(services.store.list("")) == []
    for path, body in [("cancel", None), ("complete", {"part_ids": [part]}), ("parts/presign", {"bytes": 1})]:
        assert_problem(client.post(f"/v1/uploads/{upload_id}/{path}", json=body), 409, "upload_not_pending")
    refused = client.post(f"/v1/uploads/{upload_id}/parts", files={"data": b"abc"})
    assert_problem(refused, 409, "upload_not_pending")


def test_an_upload_expires(
    client: TestClient, open_upload: Any, send_part: Any, *, services: Services, rows: Any, assert_problem: Problem
) -> None:
    upload_id, other = open_upload(3), open_upload(3)
    part = send_part(upload_id, b"abc")["id"]

    def past(session: Any) -> None:
        session.get_one(Upload, upload_id).expires_at = time.time() - 1

    rows(past)
    answer = client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": [part]})
    assert_problem(answer, 410, "upload_expired")
    keys = rows(service.expire_overdue)
    assert keys == [info.key for info in services.store.list("uploads/")]
    assert client.get(f"/v1/uploads/{upload_id}").json()["status"] == "expired"
    assert client.get(f"/v1/uploads/{other}").json()["status"] == "pending"


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"bytes": 0}, 422, "invalid_value", "bytes"),
        ({"bytes": 6 * 2**40}, 413, "too_large", "bytes"),
        ({"filename": "a\r\nb"}, 422, "invalid_value", "filename"),
        ({"purpose": "assistants"}, 422, "invalid_value", "purpose"),
        ({"status": "completed"}, 422, "unknown_field", "status"),
        ({"expires_after": {"seconds": 1}}, 422, "invalid_value", "expires_after.seconds"),
    ],
)
def test_bad_announcements_name_the_field(
    client: TestClient, assert_problem: Problem, *, change: dict[str, Any], status: int, code: str, param: str
) -> None:
    answer = client.post("/v1/uploads", json={**NAMED, "bytes": 3, **change})
    assert_problem(answer, status, code, param=param)
