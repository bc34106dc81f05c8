"""boto3 as we use it: how it connects, what its errors mean, and what a store that speaks S3 can really do."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from api.settings import Settings
from api.storage.base import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_ATTEMPTS = 4  # of one request; boto3 waits up to 1, 2, 4 s between them, at random
_CONNECT_TIMEOUT_S = 5.0
_MISSING = {"404", "NoSuchKey", "NotFound", "NoSuchUpload"}
_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict"}
_REASONS = {
    "RequestTimeTooSkewed": "its clock and this machine's differ by more than a quarter of an hour",
    "InvalidAccessKeyId": "it does not know our access key",
    "SignatureDoesNotMatch": "our secret key is wrong, or a proxy changes the host name",
    "AccessDenied": "our key may not do this",
    "NoSuchBucket": "the bucket does not exist",
    "BadDigest": "what arrived there is not what was sent",
    "XAmzContentSHA256Mismatch": "what arrived there is not what was sent",
}


def code_of(error: ClientError) -> str:
    """The store's own word for an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translated(key: str) -> Iterator[None]:
    """boto3's errors as ours.

    Raises:
        FileNotFoundError: there is no such object.
        FileExistsError: there is one already, and the put was conditional.
        StoreError: anything else.
    """
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in _MISSING:
            raise FileNotFoundError(key) from None
        if code in _EXISTS:
            raise FileExistsError(key) from None
        raise StoreError(f"the object store refused {key}: {_REASONS.get(code, error)}") from error
    except (BotoCoreError, Boto3Error) as error:
        cause = error.__context__
        if isinstance(cause, ClientError) and code_of(cause) in _EXISTS:
            raise FileExistsError(key) from None
        raise StoreError(f"the object store did not answer for {key}: {error}") from error


def s3_client(settings: Settings, endpoint_url: str | None) -> S3Client:
    """A client for one address. The body of a request is signed by its sha256, which the store compares."""
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path", "payload_signing_enabled": True},
        # Stores that are not AWS refuse the checksum headers that boto3 sends by default since 1.36.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=settings.s3_timeout_s,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=key_id.get_secret_value() if key_id else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=config,
    )


def honours_conditions(client: S3Client, bucket: str, prefix: str) -> bool:
    """Return whether `If-None-Match: *` keeps a put from overwriting: stores say yes that do not, so one is asked to.

    Raises:
        StoreError: it does not answer.
    """
    key = f"{prefix}probe/{secrets.token_hex(8)}"
    with translated(key):
        client.put_object(Bucket=bucket, Key=key, Body=b"first")
        try:
            client.put_object(Bucket=bucket, Key=key, Body=b"second", IfNoneMatch="*")
        except ClientError as error:
            if code_of(error) not in {*_EXISTS, "NotImplemented", "InvalidArgument", "InvalidRequest"}:
                raise
            refused = code_of(error) in _EXISTS
        else:
            refused = False
        kept = client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"first"
        client.delete_object(Bucket=bucket, Key=key)
    return refused and kept
