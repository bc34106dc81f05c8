"""The bucket is made where it is missing, and only there; what the store answers is botocore's own stub."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.stub import Stubber
from pydantic import SecretStr
from urllib3 import HTTPResponse

from api.settings import Settings
from api.storage import StoreError
from api.storage.s3 import S3Store


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Settings(
        data_dir=tmp_path,
        store_url="s3://bucket",
        s3_endpoint_url="http://127.0.0.1:1",
        s3_region="eu-1",
        s3_access_key_id=SecretStr("key"),
        s3_secret_access_key=SecretStr("secret"),
    )


def test_a_missing_bucket_is_made_and_one_that_is_there_is_left_alone(settings: Settings) -> None:
    store = S3Store(settings)
    with Stubber(store._client) as answers:
        answers.add_client_error("head_bucket", "404", http_status_code=404)
        answers.add_response("create_bucket", {}, {"Bucket": "bucket"})
        assert store.ensure_bucket()
        answers.add_response("head_bucket", {})
        assert not store.ensure_bucket()
        answers.add_response("head_bucket", {})
        store.check()
        answers.assert_no_pending_responses()


def test_a_bucket_that_is_missing_or_refused_is_named(settings: Settings) -> None:
    store = S3Store(settings)
    with Stubber(store._client) as answers:
        answers.add_client_error("head_bucket", "404", http_status_code=404)
        with pytest.raises(StoreError, match="the bucket bucket does not exist"):
            store.check()
        answers.add_client_error("head_bucket", "403", http_status_code=403)
        with pytest.raises(StoreError):
            store.ensure_bucket()


def test_files_go_to_the_endpoint_by_a_client_that_heeds_it(settings: Settings) -> None:
    """Boto3 sends to AWS what awscrt transfers: that is for AWS alone, and never for a stream of a request."""
    aws = settings.model_copy(update={"s3_endpoint_url": None})
    for store, files in ((S3Store(settings), "classic"), (S3Store(aws), "auto")):
        assert store._transfer.preferred_transfer_client == files
        assert store._one_thread.preferred_transfer_client == "classic"
        assert not store._one_thread.use_threads


def test_a_body_is_signed_by_its_sha256_and_has_no_checksum_that_only_aws_knows(settings: Settings) -> None:
    store, sent = S3Store(settings), []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, HTTPResponse(body=BytesIO(), preload_content=False))

    store._client.meta.events.register("before-send.s3", answer)
    store._client.put_object(Bucket="bucket", Key="a/b", Body=b"bytes")
    (request,) = sent
    assert request.url == "http://127.0.0.1:1/bucket/a/b"
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"bytes").hexdigest().encode()
    assert headers["authorization"].startswith(b"AWS4-HMAC-SHA256 Credential=key/")
    assert not [name for name in headers if "checksum" in name or name == "content-encoding"]


def test_a_store_that_is_slow_is_tried_four_times_for_as_long_as_was_asked(settings: Settings) -> None:
    config = S3Store(settings.model_copy(update={"s3_timeout_s": 7.0}))._client.meta.config
    assert (config.read_timeout, config.connect_timeout) == (7.0, 5)
    assert config.retries["total_max_attempts"] == 4
