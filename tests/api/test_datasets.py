from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.datasets.states import DatasetStatus
from api.deps import Services

Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def with_items(services: Services, add_file: Callable[..., str], settle: Callable[..., None]) -> str:
    lines = [json.dumps({"path": f"{n % 2}/{n}é.png", "class": str(n % 2), "width": 8}) for n in range(25)]
    dataset_id = add_file()
    key = f"datasets/{dataset_id}/items.jsonl"
    services.store.put_stream(key, ["\n".join(lines).encode() + b"\n"])
    settle(dataset_id, items_key=key)
    return dataset_id


def test_items_page_by_their_place(client: TestClient, with_items: str) -> None:
    url = f"/v1/datasets/{with_items}/items"
    paths, after = [], None
    while True:
        page = client.get(url, params={"limit": 10, **({"after": after} if after else {})}).json()
        paths += [item["path"] for item in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert paths == [f"{n % 2}/{n}é.png" for n in range(25)]
    assert client.get(url, params={"after": after}).json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


@pytest.mark.parametrize("after", ["item_3", "item_999999", "item_-1", "nonsense"])
def test_a_cursor_that_is_no_item_is_refused(
    client: TestClient, with_items: str, assert_problem: Problem, after: str
) -> None:
    answer = client.get(f"/v1/datasets/{with_items}/items", params={"after": after})
    assert_problem(answer, 422, "invalid_cursor", param="after")


def test_report_and_items_wait_for_validation(
    client: TestClient, add_file: Callable[..., str], assert_problem: Problem
) -> None:
    dataset_id = add_file()
    assert_problem(client.get(f"/v1/datasets/{dataset_id}/report"), 409, "dataset_validating")
    assert_problem(client.get(f"/v1/datasets/{dataset_id}/items"), 409, "dataset_validating")


def test_the_report_names_files_and_links_the_whole(
    client: TestClient, services: Services, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    dataset_id = add_file()
    key = f"datasets/{dataset_id}/1/report.json"
    services.store.put_stream(key, [b'{"errors": "all"}'])
    report = {"errors": [{"path": "0/a.jpg", "code": "truncated_image"}], "num_files": 3}
    settle(dataset_id, DatasetStatus.INVALID, report=report, report_key=key, error_code="dataset_invalid")
    found = client.get(f"/v1/datasets/{dataset_id}/report").json()
    assert (found["object"], found["status"], found["num_files"]) == ("dataset.report", "invalid", 3)
    assert found["errors"][0]["path"] == "0/a.jpg"
    assert client.get(found["full_report_url"]).json() == {"errors": "all"}


def test_list_and_filter(client: TestClient, add_file: Callable[..., str], settle: Callable[..., None]) -> None:
    ids = [add_file() for _ in range(3)]
    settle(ids[1])
    first = client.get("/v1/datasets", params={"limit": 2}).json()
    assert ([d["id"] for d in first["data"]], first["has_more"]) == ([ids[2], ids[1]], True)
    found = client.get("/v1/datasets", params={"after": first["last_id"]}).json()["data"]
    assert [d["id"] for d in found] == ids[:1]
    (ready,) = client.get("/v1/datasets", params={"status": "ready"}).json()["data"]
    assert (ready["id"], ready["num_items"], ready["class_names"]) == (ids[1], 20, ["0", "1"])
    client.delete(f"/v1/datasets/{ids[1]}")
    assert client.get("/v1/datasets", params={"status": "ready"}).json()["data"] == []
