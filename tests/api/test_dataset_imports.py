"""Which objects may be imported; that they are is in `test_importing.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from api.datasets.imports import parsed
from api.settings import Settings

Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def allowing(settings: Settings) -> Settings:
    given = {
        "import_prefixes": ["s3://open/", "s3://shared/sets"],
        "import_s3_endpoint_url": "http://files.example.org",
        "import_s3_access_key_id": SecretStr("reader"),
        "store_url": "s3://shared/sets/own",
        "s3_endpoint_url": "http://files.example.org",
        "s3_access_key_id": SecretStr("writer"),
    }
    return settings.model_copy(update=given)


@pytest.mark.parametrize("uri", ["s3://open/a.zip", "s3://open/a/b.zip", "s3://shared/sets/a.zip", "s3://open/a..b"])
def test_what_lies_below_an_allowed_prefix_may_be_imported(allowing: Settings, uri: str) -> None:
    source = parsed(allowing, uri)
    assert f"s3://{source.bucket}/{source.name}" == uri
    assert source.settings.s3_access_key_id == SecretStr("reader"), "never the service's own key"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://opened/a.zip",
        "s3://shared/sets-of-others/a.zip",
        "s3://shared/a.zip",
        "s3://open",
        "s3://open/",
        "s3://open//a.zip",
        "s3://open/../shared/a.zip",
        "s3://open/./a.zip",
        "s3://open/a\n.zip",
        "http://open/a.zip",
        "s3://169.254.169.254/latest/meta-data",
        "s3://shared/sets/own/datasets/ds_1/file",
    ],
)
def test_nothing_else_may(allowing: Settings, uri: str) -> None:
    with pytest.raises(ValueError, match=r"no s3://|may not be imported|own store"):
        parsed(allowing, uri)


def test_without_a_setting_nothing_may(client: TestClient, assert_problem: Problem) -> None:
    answer = client.post("/v1/datasets/import", json={"uri": "s3://open/a.zip"})
    body = assert_problem(answer, 422, "import_not_allowed", param="uri")
    assert "allowed is: nothing" in body["detail"]
    answer = client.post("/v1/datasets/import", json={"uri": "file:///etc/passwd"})
    assert_problem(answer, 422, "invalid_value", param="uri")
    answer = client.post("/v1/datasets/import", json={"uri": "s3://open/a", "endpoint_url": "http://127.0.0.1"})
    assert_problem(answer, 422, "unknown_field", param="endpoint_url")
