"""Files that arrive in parts, in any order and from many connections; completing them copies nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Session

from api import quotas
from api.datasets import service as datasets
from api.datasets.models import Dataset
from api.errors import ConflictError, GoneError, InvalidInputError, NotYetError, TooLargeError, not_found
from api.ids import new_id
from api.settings import Settings
from api.storage import ObjectInfo, ObjectStore
from api.uploads import repository
from api.uploads.models import Upload, UploadPart
from api.uploads.schemas import MAX_PARTS, UploadComplete, UploadCreate
from api.uploads.states import UploadStatus
from difftune_core.config.dataset import DatasetOptions

_EXPIRED_AT_ONCE = 100


def create(session: Session, settings: Settings, tenant_id: str, asked: UploadCreate) -> Upload:
    """A pending upload.

    Raises:
        TooLargeError: the announced file is larger than allowed.
        QuotaError: the tenant has no room for it.
    """
    if asked.bytes > settings.max_upload_bytes:
        message = f"An upload has at most {settings.max_upload_bytes} bytes."
        raise TooLargeError("too_large", message, param="bytes", pointer="#/bytes", max_bytes=settings.max_upload_bytes)
    quotas.reserve(session, settings, tenant_id, asked.bytes, param="bytes")
    now = time.time()
    upload = Upload(
        id=new_id("upl"),
        tenant_id=tenant_id,
        status=UploadStatus.PENDING,
        filename=asked.filename,
        mime_type=asked.mime_type,
        purpose=asked.purpose,
        bytes=asked.bytes,
        options=asked.options().model_dump(),
        created_at=now,
        expires_at=now + (asked.expires_after.seconds if asked.expires_after else settings.upload_ttl_s),
    )
    session.add(upload)
    return upload


def get(session: Session, tenant_id: str, upload_id: str, *, lock: bool = False) -> Upload:
    """The tenant's upload.

    Raises:
        NotFoundError: there is none.
    """
    upload = repository.find(session, tenant_id, upload_id, lock=lock)
    if upload is None:
        raise not_found("upload", upload_id)
    return upload


def open_upload(session: Session, tenant_id: str, upload_id: str, *, lock: bool = False) -> Upload:
    """The tenant's upload, which still takes parts.

    Raises:
        NotFoundError: there is none.
        GoneError: its time is over.
        ConflictError: it is completed or cancelled.
    """
    upload = get(session, tenant_id, upload_id, lock=lock)
    if upload.status == UploadStatus.EXPIRED or (
        upload.status == UploadStatus.PENDING and upload.expires_at < time.time()
    ):
        raise GoneError("upload_expired", f"The upload {upload_id} has expired.")
    if upload.status != UploadStatus.PENDING:
        raise ConflictError("upload_not_pending", f"The upload {upload_id} is {upload.status}.")
    return upload


def parts_of(session: Session, tenant_id: str, upload_id: str) -> list[UploadPart]:
    """All parts of the tenant's upload.

    Raises:
        NotFoundError: there is no such upload.
    """
    get(session, tenant_id, upload_id)
    return repository.parts_of(session, upload_id)


def part_key(upload_id: str, part_id: str) -> str:
    """The key of a part, under which it stays when it becomes part of a data set."""
    return f"uploads/{upload_id}/{part_id}"


def add_part(
    session: Session, settings: Settings, upload: Upload, *, part_id: str, stored: ObjectInfo | None, announced: int
) -> UploadPart:
    """Record a part that is in the store, or (`stored` None) one that a client was given a link for.

    Raises:
        InvalidInputError: the part is empty.
        TooLargeError: the part is larger than the file, the parts together are far beyond it, or too many.
    """
    field = "data" if stored else "bytes"
    if announced == 0:
        raise InvalidInputError("empty_part", "The part is empty.", param=field)
    if announced > upload.bytes:
        message = f"The part has {announced} bytes; all of {upload.id} has {upload.bytes}."
        raise TooLargeError("too_large", message, param=field, pointer=f"#/{field}", max_bytes=upload.bytes)
    room = 2 * upload.bytes + settings.max_part_bytes  # a client may send parts again whose answer it lost
    count, total = repository.count_parts(session, upload.id)
    if count >= MAX_PARTS:
        message = f"{upload.id} has {count} parts already, which is the most; send larger ones."
        raise TooLargeError("too_many_parts", message, max_parts=MAX_PARTS)
    if total + announced > room:
        message = f"The parts of {upload.id} are far more than its {upload.bytes} bytes."
        raise TooLargeError("too_large", message, param=field, pointer=f"#/{field}")
    part = UploadPart(
        id=part_id,
        upload_id=upload.id,
        key=part_key(upload.id, part_id),
        bytes=stored.bytes if stored else None,
        announced=None if stored else announced,
        signed_at=None if stored else time.time(),
        sha256=stored.sha256 if stored else None,
        created_at=time.time(),
    )
    session.add(part)
    return part


def renew_part(session: Session, upload: Upload, part_id: str) -> UploadPart:
    """A presigned part whose link is to be given out anew: its client comes back after the link has expired.

    Raises:
        NotFoundError: there is no such part.
        ConflictError: it came through the API.
    """
    part = repository.part(session, upload.id, part_id)
    if part is None:
        raise not_found("part", part_id)
    if part.announced is None:
        raise ConflictError("part_received", f"The part {part_id} came through the API and is there.")
    part.signed_at = time.time()
    return part


def seen_in_store(store: ObjectStore, parts: Iterable[UploadPart]) -> dict[str, ObjectInfo]:
    """The presigned parts that have arrived, by id. Asks the store: call it outside of a unit of work."""
    found = {}
    for part in parts:
        if part.bytes is None:
            try:
                found[part.id] = store.stat(part.key)
            except FileNotFoundError:
                continue
    return found


def complete(session: Session, upload: Upload, asked: UploadComplete, seen: dict[str, ObjectInfo]) -> Dataset:
    """Make the file of the named parts, in their order, and have it validated.

    Raises:
        InvalidInputError: a part is unknown or named twice, or the sizes do not add up.
        NotYetError: a part has not arrived.
    """
    known = {part.id: part for part in repository.parts_of(session, upload.id)}
    manifest: list[dict[str, Any]] = []
    for number, part_id in enumerate(asked.part_ids):
        where: dict[str, Any] = {"param": f"part_ids.{number}", "pointer": f"#/part_ids/{number}"}
        part = known.pop(part_id, None)
        if part is None:
            message = f"{part_id!r} is no part of {upload.id}, or is named twice."
            raise InvalidInputError("part_not_found", message, **where)
        if part.bytes is None and part_id in seen:
            part.bytes = seen[part_id].bytes
        if part.bytes is None:
            raise NotYetError("part_not_received", f"The part {part_id} has not arrived.", retry_after_s=5, **where)
        manifest.append({"key": part.key, "bytes": part.bytes})
    total = sum(part["bytes"] for part in manifest)
    if total != upload.bytes:
        message = f"The parts have {total} bytes together; {upload.bytes} were announced."
        raise InvalidInputError("upload_size_mismatch", message, param="part_ids")
    dataset = datasets.create(
        session,
        upload.tenant_id,
        filename=upload.filename,
        purpose=upload.purpose,
        parts=manifest,
        expected_md5=asked.md5.lower() if asked.md5 else None,
        expected_sha256=asked.sha256.lower() if asked.sha256 else None,
        options=DatasetOptions.model_validate(upload.options or {}),
    )
    for part in known.values():
        part.bytes = None  # as one that never arrived: the sweep forgets it
    upload.status, upload.dataset_id = UploadStatus.COMPLETED, dataset.id
    return dataset


def completed_as(session: Session, upload: Upload, asked: UploadComplete) -> Dataset | None:
    """The file that the upload became, for a client that completes it again because it lost the answer.

    Raises:
        ConflictError: it was completed otherwise than asked now.
    """
    dataset = session.get(Dataset, upload.dataset_id)
    if dataset is not None:
        same_parts = [part_key(upload.id, part_id) for part_id in asked.part_ids] == [
            part["key"] for part in dataset.parts
        ]
        stated = {"md5": dataset.expected_md5, "sha256": dataset.expected_sha256}
        given = {"md5": asked.md5, "sha256": asked.sha256}
        differing = [name for name, value in given.items() if value is not None and value.lower() != stated[name]]
        if differing or not same_parts:
            message = f"The upload {upload.id} is completed, of other parts or with another checksum."
            raise ConflictError("upload_not_pending", message, param=differing[0] if same_parts else "part_ids")
    return dataset


def left_over(session: Session, upload: Upload, dataset: Dataset | None) -> list[str]:
    """Keys of parts that belong to no file: to be deleted after the commit."""
    used = {part["key"] for part in dataset.parts} if dataset else set()
    return [part.key for part in repository.parts_of(session, upload.id) if part.key not in used]


def expire_overdue(session: Session) -> list[str]:
    """End uploads whose time is over; returns the keys to delete after the commit. For the sweep."""
    keys: list[str] = []
    for upload in repository.overdue(session, time.time(), _EXPIRED_AT_ONCE):
        upload.status = UploadStatus.EXPIRED
        keys += left_over(session, upload, None)
    return keys
