from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.settings import Settings

pytestmark = pytest.mark.both_databases
Problem = Callable[..., dict[str, Any]]
NAMED = {"filename": "digits.zip", "mime_type": "application/zip", "purpose": "fine-tune"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"quota_bytes": 1000})


def announce(client: TestClient, num_bytes: int, **more: Any) -> Any:
    return client.post("/v1/uploads", json={**NAMED, "bytes": num_bytes}, **more)


def test_uploads_and_files_share_a_tenants_room(
    client: TestClient, add_file: Callable[..., str], stranger: dict[str, str], assert_problem: Problem
) -> None:
    file_id = add_file(b"x" * 600)
    upload = announce(client, 400).json()["id"]
    body = assert_problem(announce(client, 1), 403, "quota_exceeded", param="bytes")
    assert (body["quota_bytes"], body["used_bytes"]) == (1000, 1000)
    sent = client.post("/v1/files", files={"file": ("a.zip", b"x")}, data={"purpose": "fine-tune"})
    assert_problem(sent, 403, "quota_exceeded", param="file")
    assert announce(client, 1000, headers=stranger).status_code == 200
    assert client.post(f"/v1/uploads/{upload}/cancel").status_code == 200
    assert announce(client, 400).status_code == 200
    assert client.delete(f"/v1/files/{file_id}").status_code == 200
    assert announce(client, 600).status_code == 200
    assert_problem(announce(client, 1), 403, "quota_exceeded", param="bytes")


def test_a_completed_upload_counts_once(client: TestClient) -> None:
    upload = announce(client, 500).json()["id"]
    part = client.post(f"/v1/uploads/{upload}/parts", files={"data": b"x" * 500}).json()["id"]
    assert client.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [part]}).status_code == 200
    assert announce(client, 500).status_code == 200
    assert announce(client, 1).status_code == 403


def announced(client: TestClient, size: int) -> int:
    """Announce until it is not merely one of too many at once; the status then."""
    while (code := announce(client, size).status_code) == 429:
        time.sleep(0.1)
    return code


def test_uploads_that_are_announced_at_once_do_not_share_room(client: TestClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: announced(client, 300), range(24)))
    assert sorted(codes) == [200] * 3 + [403] * 21
