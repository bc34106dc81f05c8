from __future__ import annotations

import hashlib
import io
import random
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import structlog
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from api.addresses import path_apart
from api.settings import Settings
from api.storage.base import CHUNK_BYTES, ObjectChangedError, ObjectInfo, StoreError, checked_key, disposition
from api.storage.s3_client import code_of, honours_conditions, s3_client, translated
from difftune_core.files import sha256_file

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_READ_TRIES = 4
_READ_PAUSE_S = 0.5
_BEYOND_THE_END = {"InvalidRange", "416"}
log = structlog.get_logger(__name__)


class S3Store:
    """Any S3-compatible store. Links are signed for the address at which clients reach it."""

    def __init__(self, settings: Settings) -> None:
        """`settings.store_url` is `s3://bucket` or `s3://bucket/prefix`. Nothing is connected yet."""
        bucket, _, prefix = (settings.store_url or "").removeprefix("s3://").partition("/")
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client: S3Client = s3_client(settings, settings.s3_endpoint_url)
        # What a proxy takes away from the path, the store does not see: it is put in after signing.
        outside, self._public_path = path_apart(settings.s3_public_url) if settings.s3_public_url else (None, "")
        self._public: S3Client = s3_client(settings, outside or settings.s3_endpoint_url)
        # boto3 would send to AWS whatever awscrt transfers, whichever endpoint the client has.
        engine = "auto" if settings.s3_endpoint_url is None else "classic"
        self._transfer = TransferConfig(preferred_transfer_client=engine)
        self._one_thread = TransferConfig(use_threads=False, preferred_transfer_client="classic")
        self._conditions: bool | None = None
        self._probing = threading.Lock()
        # boto3's transfers know no conditions. Only objects of one part have one: many stores ignore it on completion.
        self._client.meta.events.register("before-parameter-build.s3.PutObject", self._add_condition)

    def put_file(self, key: str, path: Path, *, content_type: str, sha256: str | None = None) -> ObjectInfo:
        """Do as `ObjectStore.put_file`; in parts where it is large."""
        digest = sha256 or sha256_file(path)  # a header, which goes before the bytes
        extra = {"ContentType": content_type, "Metadata": {"sha256": digest}}
        self._probe()
        try:
            with translated(key):
                self._client.upload_file(
                    str(path), self.bucket, self._name(key), ExtraArgs=extra, Config=self._transfer
                )
        except FileExistsError:  # it may be ours: an answer that was lost, a worker that tries again
            if self.stat(key).sha256 != digest:
                raise
        return ObjectInfo(key, path.stat().st_size, digest)

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> ObjectInfo:
        """Do as `ObjectStore.put_stream`; one part of 8 MiB is in memory.

        Chunks are read in the calling thread: those of a request can be read in no other.
        """
        reader = _HashingReader(chunks)
        self._probe()
        try:
            with translated(key):
                file = cast("IO[bytes]", reader)
                self._client.upload_fileobj(file, self.bucket, self._name(key), Config=self._one_thread)
        except FileExistsError:
            if self._digest(key) != reader.digest.hexdigest():
                raise
        return ObjectInfo(key, reader.num_bytes, reader.digest.hexdigest())

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Do as `ObjectStore.read`; goes on where a connection broke, as long as it is the same object."""
        yield from object_chunks(self._client, self.bucket, self._name(key), start=start, end=end)

    def stat(self, key: str) -> ObjectInfo:
        """Do as `ObjectStore.stat`."""
        return replace(object_info(self._client, self.bucket, self._name(key)), key=key)

    def delete(self, key: str) -> None:
        """Do as `ObjectStore.delete`."""
        try:
            with translated(key):
                self._client.delete_object(Bucket=self.bucket, Key=self._name(key))
        except FileNotFoundError:
            return

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Do as `ObjectStore.list`."""
        with translated(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for found in page.get("Contents", []):
                    key, modified = found["Key"].removeprefix(self.prefix), found["LastModified"].timestamp()
                    yield ObjectInfo(key, found["Size"], None, found["ETag"].strip('"'), modified)

    def url_get(self, key: str, *, filename: str, content_type: str, expires_s: float, inline: bool = False) -> str:
        """Do as `ObjectStore.url_get`."""
        fixed = {
            "ResponseContentDisposition": disposition(filename, inline=inline),
            "ResponseContentType": content_type,
        }
        params = {"Bucket": self.bucket, "Key": self._name(key), **fixed}
        return self._link("get_object", params, expires_s)

    def url_put(self, key: str, *, num_bytes: int, expires_s: float) -> str:
        """Do as `ObjectStore.url_put`; the length is among the signed headers."""
        params = {"Bucket": self.bucket, "Key": self._name(key), "ContentLength": num_bytes}
        return self._link("put_object", params, expires_s)

    def forget_unfinished(self, older_than_s: float) -> int:
        """Do as `ObjectStore.forget_unfinished`: parts of broken-off writes are no objects, but they take room."""
        forgotten = 0
        with translated(self.bucket):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for found in page.get("Uploads", []):
                    if time.time() - found["Initiated"].timestamp() > older_than_s:
                        forgotten += self._aborted(found["Key"], found["UploadId"])
        return forgotten

    def check(self) -> None:
        """Do as `ObjectStore.check`."""
        try:
            with translated(self.bucket):
                self._client.head_bucket(Bucket=self.bucket)
        except FileNotFoundError:
            raise StoreError(f"the bucket {self.bucket} does not exist") from None

    def ensure_bucket(self) -> bool:
        """Make the bucket where it is missing; whether it was.

        Raises:
            StoreError: the store does not answer, or does not let us.
        """
        try:
            with translated(self.bucket):
                self._client.head_bucket(Bucket=self.bucket)
        except FileNotFoundError:
            with translated(self.bucket):
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

    @property
    def conditional(self) -> bool:
        """Whether this store keeps a put from overwriting. What we write is safe without it too."""
        return self._probe()

    def _link(self, method: str, params: dict[str, Any], expires_s: float) -> str:
        with translated(params["Key"]):
            url = self._public.generate_presigned_url(method, Params=params, ExpiresIn=int(expires_s))
        signed = urlsplit(url)
        return signed._replace(path=self._public_path + signed.path).geturl()

    def _probe(self) -> bool:
        """Ask once. Our keys are never written twice: a store that can tell is told so."""
        with self._probing:
            if self._conditions is None:
                self._conditions = honours_conditions(self._client, self.bucket, self.prefix)
                log.info("store_probed", bucket=self.bucket, conditional_put=self._conditions)
            return self._conditions

    def _add_condition(self, params: dict[str, Any], **_: Any) -> None:
        if self._conditions:
            params["IfNoneMatch"] = "*"

    def _aborted(self, name: str, upload_id: str) -> bool:
        try:
            with translated(name):
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=name, UploadId=upload_id)
        except FileNotFoundError:  # it has become an object
            return False
        return True

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        for chunk in self.read(key):
            digest.update(chunk)
        return digest.hexdigest()

    def _name(self, key: str) -> str:
        return self.prefix + checked_key(key)


def object_info(client: S3Client, bucket: str, name: str) -> ObjectInfo:
    """An object's size and what else is known; errors as `ObjectStore.stat`."""
    with translated(name):
        found = client.head_object(Bucket=bucket, Key=name)
    modified, sha256 = found["LastModified"].timestamp(), found["Metadata"].get("sha256")
    return ObjectInfo(name, found["ContentLength"], sha256, found["ETag"].strip('"'), modified)


def object_chunks(
    client: S3Client, bucket: str, name: str, *, start: int = 0, end: int | None = None, etag: str | None = None
) -> Iterator[bytes]:
    """Bytes `[start, end)` of an object, going on where a connection broke as long as it is the same object."""
    failures = 0
    while end is None or start < end:
        wanted: dict[str, Any] = {"Bucket": bucket, "Key": name, **({"IfMatch": etag} if etag else {})}
        if start or end is not None:  # a range of an empty object is refused
            wanted["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            with translated(name):
                found = client.get_object(**wanted)
                etag = found["ETag"]
                for chunk in found["Body"].iter_chunks(CHUNK_BYTES):
                    start += len(chunk)
                    failures = 0
                    yield chunk
        except FileExistsError:  # so a condition that does not hold is told of
            raise ObjectChangedError(f"{name} is not what it was") from None
        except StoreError as error:
            if _is_beyond_the_end(error):
                return
            failures += 1
            if failures == _READ_TRIES or not isinstance(error.__cause__, BotoCoreError):
                raise
            log.warning("read_goes_on", key=name, offset=start, error=str(error))
            time.sleep(random.uniform(0.5, 1.0) * _READ_PAUSE_S * 2**failures)  # noqa: S311  # no secret
        else:
            return


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


def _is_beyond_the_end(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, ClientError) and code_of(cause) in _BEYOND_THE_END
