"""Data sets from buckets that the operator allows: address and key are the operator's, users name only the object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api import quotas
from api.datasets import service
from api.datasets.models import Dataset
from api.datasets.schemas import DatasetImport
from api.errors import InvalidInputError, TooLargeError
from api.settings import Settings
from api.storage import ObjectInfo
from api.storage.s3 import object_chunks, object_info
from api.storage.s3_client import s3_client

_SCHEME = "s3://"


@dataclass(frozen=True)
class Source:
    """An object that may be imported."""

    settings: Settings
    bucket: str
    name: str

    def stat(self) -> ObjectInfo:
        """Ask the store for the object's size in bytes and its etag.

        Raises:
            FileNotFoundError: there is none.
            StoreError: the store does not answer, or does not let us.
        """
        return object_info(s3_client(self.settings, self.settings.s3_endpoint_url), self.bucket, self.name)

    def read(self, etag: str) -> Iterator[bytes]:
        """Read the object's bytes, as long as it has this etag.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it has changed, or the store does not answer.
        """
        client = s3_client(self.settings, self.settings.s3_endpoint_url)
        return object_chunks(client, self.bucket, self.name, etag=f'"{etag}"')


def parsed(settings: Settings, uri: str) -> Source:
    """The object behind a URI.

    Raises:
        ValueError: the operator does not allow it, or it is no URI of an object.
    """
    bucket, _, name = uri.removeprefix(_SCHEME).partition("/")
    if not uri.startswith(_SCHEME) or {"", ".", ".."} & set(name.split("/")) or not name.isprintable():
        raise ValueError(f"{uri!r} is no s3://bucket/key of an object.")
    if not any(uri.startswith(f"{prefix.rstrip('/')}/") for prefix in settings.import_prefixes):
        allowed = ", ".join(settings.import_prefixes) or "nothing"
        raise ValueError(f"{uri!r} may not be imported; allowed is: {allowed}.")
    if _is_own(settings, bucket, name):
        raise ValueError(f"{uri!r} lies in the service's own store.")
    theirs = {
        "s3_endpoint_url": settings.import_s3_endpoint_url,
        "s3_region": settings.import_s3_region,
        "s3_access_key_id": settings.import_s3_access_key_id,
        "s3_secret_access_key": settings.import_s3_secret_access_key,
    }
    return Source(settings.model_copy(update=theirs), bucket, name)


def create(session: Session, settings: Settings, tenant_id: str, asked: DatasetImport, found: ObjectInfo) -> Dataset:
    """A data set that is copied, then validated, by a worker.

    Raises:
        TooLargeError: the object is larger than an upload may be.
        InvalidInputError: it is empty.
        QuotaError: the tenant has no room for it.
    """
    if found.bytes == 0:
        raise InvalidInputError("empty_file", f"{asked.uri} is empty.", param="uri")
    if found.bytes > settings.max_upload_bytes:
        message = f"{asked.uri} has {found.bytes} bytes; at most {settings.max_upload_bytes} are allowed."
        raise TooLargeError("too_large", message, param="uri", pointer="#/uri", max_bytes=settings.max_upload_bytes)
    quotas.reserve(session, settings, tenant_id, found.bytes, param="uri")
    dataset = service.create(
        session,
        tenant_id,
        filename=asked.filename or asked.uri.rpartition("/")[2][-255:],
        purpose="fine-tune",
        parts=[],
        expected_sha256=asked.sha256.lower() if asked.sha256 else None,
        options=asked.options(),
    )
    dataset.bytes = found.bytes
    dataset.source = {"uri": asked.uri, "etag": found.etag}
    return dataset


def _is_own(settings: Settings, bucket: str, name: str) -> bool:
    """Return whether the object is in this installation's own store, where it may be another tenant's."""
    if settings.store_url is None or settings.s3_endpoint_url != settings.import_s3_endpoint_url:
        return False
    own = settings.store_url.removeprefix(_SCHEME).strip("/")
    return f"{bucket}/{name}/".startswith(f"{own}/")
