from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from api.settings import Settings
from api.storage.base import CHUNK_BYTES, ObjectInfo, StoreError, attachment, checked_key

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_ONE_THREAD = TransferConfig(use_threads=False)
_MISSING = {"404", "NoSuchKey", "NotFound"}


class S3Store:
    """Any S3-compatible store. Links are signed for the address at which clients reach it."""

    def __init__(self, settings: Settings) -> None:
        """`settings.store_url` is `s3://bucket` or `s3://bucket/prefix`."""
        bucket, _, prefix = (settings.store_url or "").removeprefix("s3://").partition("/")
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = _client(settings, settings.s3_endpoint_url)
        self._public = _client(settings, settings.s3_public_url or settings.s3_endpoint_url)

    def put_file(self, key: str, path: Path, *, content_type: str) -> ObjectInfo:
        """As `ObjectStore.put_file`; in parts where it is large."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        extra: dict[str, Any] = {"ContentType": content_type, "Metadata": {"sha256": digest}}
        with _translated(key):
            self._client.upload_file(str(path), self.bucket, self._name(key), ExtraArgs=extra)
        return ObjectInfo(key, path.stat().st_size, digest)

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> ObjectInfo:
        """As `ObjectStore.put_stream`; one part of 8 MiB is in memory.

        Chunks are read in the calling thread: those of a request can be read in no other.
        """
        reader = _HashingReader(chunks)
        with _translated(key):
            self._client.upload_fileobj(cast("IO[bytes]", reader), self.bucket, self._name(key), Config=_ONE_THREAD)
        return ObjectInfo(key, reader.num_bytes, reader.digest.hexdigest())

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """As `ObjectStore.read`."""
        if end is not None and end <= start:
            return
        extra: dict[str, Any] = {}
        if start or end is not None:  # a range of an empty object is refused
            extra["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with _translated(key):
            body = self._client.get_object(Bucket=self.bucket, Key=self._name(key), **extra)["Body"]
            yield from body.iter_chunks(CHUNK_BYTES)

    def stat(self, key: str) -> ObjectInfo:
        """As `ObjectStore.stat`."""
        with _translated(key):
            found = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
        return ObjectInfo(key, found["ContentLength"], found["Metadata"].get("sha256"), found["ETag"].strip('"'))

    def delete(self, key: str) -> None:
        """As `ObjectStore.delete`."""
        try:
            with _translated(key):
                self._client.delete_object(Bucket=self.bucket, Key=self._name(key))
        except FileNotFoundError:
            return

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As `ObjectStore.list`."""
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for found in page.get("Contents", []):
                    yield ObjectInfo(
                        found["Key"].removeprefix(self.prefix), found["Size"], etag=found["ETag"].strip('"')
                    )

    def url_get(self, key: str, *, filename: str, content_type: str, expires_s: float) -> str:
        """As `ObjectStore.url_get`."""
        fixed = {"ResponseContentDisposition": attachment(filename), "ResponseContentType": content_type}
        params = {"Bucket": self.bucket, "Key": self._name(key), **fixed}
        return self._public.generate_presigned_url("get_object", Params=params, ExpiresIn=int(expires_s))

    def url_put(self, key: str, *, num_bytes: int, expires_s: float) -> str:
        """As `ObjectStore.url_put`; the length is among the signed headers."""
        params = {"Bucket": self.bucket, "Key": self._name(key), "ContentLength": num_bytes}
        return self._public.generate_presigned_url("put_object", Params=params, ExpiresIn=int(expires_s))

    def forget_unfinished(self, older_than_s: float) -> int:
        """Nothing: parts of broken-off writes are no objects; the bucket's own rule for them removes them."""
        del older_than_s
        return 0

    def check(self) -> None:
        """As `ObjectStore.check`."""
        try:
            with _translated(self.bucket):
                self._client.head_bucket(Bucket=self.bucket)
        except FileNotFoundError:
            raise StoreError(f"the bucket {self.bucket} does not exist") from None

    def ensure_bucket(self) -> bool:
        """Make the bucket where it is missing; whether it was.

        Raises:
            StoreError: the store does not answer, or does not let us.
        """
        try:
            with _translated(self.bucket):
                self._client.head_bucket(Bucket=self.bucket)
        except FileNotFoundError:
            with _translated(self.bucket):
                self._client.create_bucket(Bucket=self.bucket)
            return True
        return False

    def clock_s(self) -> float:
        """The store's time, in Unix seconds: requests signed far from it are refused."""
        try:
            answer: Any = self._client.head_bucket(Bucket=self.bucket)["ResponseMetadata"]
        except ClientError as error:
            answer = error.response["ResponseMetadata"]
        except BotoCoreError as error:
            raise StoreError(f"the object store did not answer: {error}") from error
        return parsedate_to_datetime(answer["HTTPHeaders"]["date"]).timestamp()

    def _name(self, key: str) -> str:
        return self.prefix + checked_key(key)


class _HashingReader(io.RawIOBase):
    """Chunks as a readable file that counts and hashes what is read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        held = [self._rest]
        count = len(self._rest)
        while size < 0 or count < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            held.append(chunk)
            count += len(chunk)
        joined = b"".join(held)
        given, self._rest = (joined, b"") if size < 0 else (joined[:size], joined[size:])
        self.digest.update(given)
        self.num_bytes += len(given)
        return given


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            raise FileNotFoundError(key) from None
        raise StoreError(f"the object store refused {key}: {error}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise StoreError(f"the object store did not answer for {key}: {error}") from error


def _client(settings: Settings, endpoint_url: str | None) -> S3Client:
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        # Stores that are not AWS refuse the checksum headers that boto3 sends by default since 1.36.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=key_id.get_secret_value() if key_id else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=config,
    )
