"""Importing a data set from a bucket: what is looked at when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.settings import Settings
from api.storage import open_store
from tests.conftest import new_store
from tests.small_s3 import SmallS3

Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def bucket(small_server: SmallS3) -> dict[str, Any]:
    return new_store(small_server)


@pytest.fixture
def settings(settings: Settings, bucket: dict[str, Any]) -> Settings:
    theirs = {f"import_{name}": value for name, value in bucket.items() if name.startswith("s3_")}
    return settings.model_copy(update={**theirs, "import_prefixes": [bucket["store_url"]], "max_upload_bytes": 500})


@pytest.fixture
def put(bucket: dict[str, Any]) -> Callable[[str, bytes], str]:
    """Put an object into the operator's bucket; its URI."""

    def store(name: str, content: bytes) -> str:
        open_store(Settings(**bucket)).put_stream(name, [content])
        return f"{bucket['store_url']}/{name}"

    return store


def ask(client: TestClient, uri: str, **fields: Any) -> Any:
    return client.post("/v1/datasets/import", json={"uri": uri, **fields})


def test_a_data_set_has_its_size_and_a_name_at_once_and_no_bytes_yet(
    client: TestClient, put: Any, rows: Any, assert_problem: Problem
) -> None:
    uri = put("sets/flowers.zip", b"x" * 500)
    made = ask(client, uri).json()
    assert (made["filename"], made["bytes"], made["status"]) == ("flowers.zip", 500, "validating")
    assert ask(client, uri, filename="mine.zip").json()["filename"] == "mine.zip"
    assert_problem(client.get(f"/v1/files/{made['id']}/content"), 409, "dataset_importing")
    source, parts = rows(lambda s: (s.get_one(Dataset, made["id"]).source, s.get_one(Dataset, made["id"]).parts))
    assert (source["uri"], parts) == (uri, [])
    assert source["etag"], "by which a change is noticed"


def test_a_checksum_is_compared_whatever_the_case_of_its_digits(client: TestClient, put: Any, rows: Any) -> None:
    made = ask(client, put("a.zip", b"abc"), sha256="AB" * 32).json()["id"]
    assert rows(lambda session: session.get_one(Dataset, made).expected_sha256) == "ab" * 32


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(None, 422, "source_not_found"), (b"", 422, "empty_file"), (b"x" * 501, 413, "too_large")],
)
def test_what_cannot_be_imported_is_refused_by_its_uri(
    client: TestClient,
    put: Any,
    bucket: dict[str, Any],
    assert_problem: Problem,
    *,
    content: Any,
    status: int,
    code: str,
) -> None:
    uri = put("a.zip", content) if content is not None else f"{bucket['store_url']}/none.zip"
    assert_problem(ask(client, uri), status, code, param="uri")
    assert client.get("/v1/datasets").json()["data"] == []


def test_an_import_that_is_asked_for_again_is_the_same_whatever_became_of_the_object(
    client: TestClient, put: Any, bucket: dict[str, Any]
) -> None:
    uri = put("a.zip", b"abc")
    first, _, second = (
        client.post("/v1/datasets/import", json={"uri": uri}, headers={"Idempotency-Key": "k"}).json(),
        open_store(Settings(**bucket)).delete("a.zip"),
        client.post("/v1/datasets/import", json={"uri": uri}, headers={"Idempotency-Key": "k"}).json(),
    )
    assert first == second
