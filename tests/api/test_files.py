from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.datasets.states import DatasetStatus
from api.deps import Services
from api.subjects.models import ResultFile
from api.work.models import WorkItem


def test_a_file_becomes_a_data_set_that_is_validated(client: TestClient, services: Services) -> None:
    answer = client.post("/v1/files", files={"file": ("ä b.zip", b"PK")}, data={"purpose": "fine-tune"})
    made = answer.json()
    assert made["object"] == "file"
    assert made["id"].startswith("ds_")
    assert (made["status"], made["bytes"], made["filename"]) == ("uploaded", 2, "ä b.zip")
    dataset = client.get(f"/v1/datasets/{made['id']}").json()
    assert dataset["status"] == "validating"
    with services.database.read() as session:
        (item,) = session.query(WorkItem).all()
    assert (item.kind, item.subject_id, item.slot, item.state) == ("validate_dataset", made["id"], "cpu", "queued")
    assert item.rung_at is not None


def test_content_is_what_was_sent(client: TestClient, add_file: Callable[..., str]) -> None:
    content = bytes(range(256)) * 900
    answer = client.get(f"/v1/files/{add_file(content, 'ü.zip')}/content")
    assert answer.content == content
    assert answer.headers["content-disposition"] == "attachment; filename=\"_.zip\"; filename*=UTF-8''%C3%BC.zip"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_status_follows_validation(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    good, bad = add_file(), add_file()
    settle(good)
    settle(bad, DatasetStatus.INVALID, error_code="dataset_invalid", error_message="a.jpg is truncated")
    assert client.get(f"/v1/files/{good}").json()["status"] == "processed"
    found = client.get(f"/v1/files/{bad}").json()
    assert (found["status"], found["status_details"]) == ("error", "a.jpg is truncated")


_FINE = {"purpose": "fine-tune"}
_CUT_OFF = b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nhalf"
_BAD_FORMS: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"files": {"file": ("a.zip", b"x")}}, 422, "missing_field", "purpose"),
    ({"files": {"file": ("a.zip", b"x")}, "data": {"purpose": "assistants"}}, 422, "invalid_value", "purpose"),
    ({"files": {"other": ("a.zip", b"x")}, "data": _FINE}, 422, "unknown_field", "other"),
    ({"files": {"purpose": (None, "fine-tune")}}, 422, "missing_field", "file"),
    (
        {"files": {"file": ("a.zip", b"x")}, "data": {**_FINE, "expires_after[seconds]": "3600"}},
        422,
        "unknown_field",
        "expires_after[seconds]",
    ),
    ({"files": [("purpose", (None, "fine-tune"))] * 2}, 400, "malformed_form", None),
    ({"files": {"file": ("a.zip", b"")}, "data": _FINE}, 422, "empty_file", "file"),
    ({"files": {"file": ("a" * 300, b"x")}, "data": _FINE}, 422, "invalid_value", "file"),
    ({"files": {"file": ("a.zip", b"x" * 300_001)}, "data": _FINE}, 413, "too_large", "file"),
    ({"json": {"file": "x"}}, 400, "not_multipart", None),
    (
        {"content": _CUT_OFF, "headers": {"content-type": "multipart/form-data; boundary=b"}},
        400,
        "malformed_form",
        None,
    ),
]


@pytest.mark.parametrize("case", _BAD_FORMS, ids=lambda case: f"{case[2]}-{case[3]}")
def test_bad_forms_are_refused_and_leave_nothing(
    client: TestClient,
    services: Services,
    case: tuple[dict[str, Any], int, str, str | None],
    assert_problem: Callable[..., dict[str, Any]],
) -> None:
    form, status, code, param = case
    assert_problem(client.post("/v1/files", **form), status, code, param=param)
    assert list(services.store.list("")) == []
    assert client.get("/v1/files").json()["data"] == []


def test_list_pages_through_both_kinds_newest_first(
    client: TestClient,
    add_job: Callable[..., dict[str, str]],
    add_file: Callable[..., str],
    services: Services,
    assert_problem: Callable[..., dict[str, Any]],
) -> None:
    job = add_job()
    result = ResultFile(
        id="file_" + job["id"].removeprefix("ftjob_"), tenant_id="default", subject_id=job["id"], kind="report_json",
        step=1, filename="report.json", key="k/report.json", bytes=2, sha256="0" * 64,
        content_type="application/json", created_at=1.0,
    )  # fmt: skip
    services.store.put_stream("k/report.json", [b"{}"])
    with services.database.write() as session:
        session.add(result)
    newest = add_file()
    seen, after = [], None
    while True:
        page = client.get("/v1/files", params={"limit": 1, **({"after": after} if after else {})}).json()
        seen += [file["id"] for file in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == [newest, result.id, job["training_file"]]
    results = client.get("/v1/files?purpose=fine-tune-results").json()["data"]
    assert [(file["id"], file["status"]) for file in results] == [(result.id, "processed")]
    for listed in client.get("/v1/files").json()["data"]:
        assert client.get(f"/v1/files/{listed['id']}").json() == listed
    moved = client.get(f"/v1/files/{result.id}/content")
    assert moved.status_code == 302
    assert client.get(moved.headers["location"]).content == b"{}"
    assert client.delete(f"/v1/files/{result.id}").json() == {"id": result.id, "object": "file", "deleted": True}
    assert [info.key for info in services.store.list("k/")] == []
    assert_problem(client.get("/v1/files?after=nonsense"), 422, "invalid_cursor", param="after")


@pytest.mark.parametrize("use", ["training_file", "validation_file"])
def test_a_file_that_a_live_job_uses_is_kept(
    client: TestClient,
    add_job: Callable[..., dict[str, str]],
    add_file: Callable[..., str],
    *,
    settle: Callable[..., None],
    assert_problem: Callable[..., dict[str, Any]],
    use: str,
) -> None:
    used = add_file()
    settle(used)
    job = add_job(**{use: used})
    for url in (f"/v1/files/{used}", f"/v1/datasets/{used}"):
        assert assert_problem(client.delete(url), 409, "dataset_in_use")["jobs"] == [job["id"]]
    client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    assert client.delete(f"/v1/files/{used}").json()["deleted"] is True
    assert_problem(client.get(f"/v1/files/{used}"), 404, "file_not_found")
    assert client.get(f"/v1/fine_tuning/jobs/{job['id']}").json()[use] == used


def test_deleting_a_data_set_deletes_its_objects(
    client: TestClient, services: Services, add_file: Callable[..., str]
) -> None:
    dataset_id = add_file(b"content")
    assert [info.bytes for info in services.store.list("datasets/")] == [7]
    client.delete(f"/v1/datasets/{dataset_id}")
    assert list(services.store.list("")) == []
