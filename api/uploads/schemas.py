from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.datasets.models import Dataset
from api.datasets.schemas import DatasetSettings
from api.files.schemas import File, file_of_dataset
from api.schemas import Filename, In, Listed, Out
from api.storage import ObjectInfo
from api.uploads.models import Upload, UploadPart

MAX_PARTS = 100_000


class ExpiresAfter(In):
    """When an upload that was not completed is thrown away."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=3600, le=30 * 86_400)]


class UploadCreate(DatasetSettings):
    """A file that will arrive in parts."""

    filename: Filename
    bytes: Annotated[int, Field(ge=1)]
    """Size of the whole file; completion checks it."""
    mime_type: Annotated[str, Field(max_length=255, pattern=r"^[\w.+-]+/[\w.+-]+$")] = "application/zip"
    purpose: Literal["fine-tune"]
    expires_after: ExpiresAfter | None = None
    """When an upload that was not completed is thrown away; null: after a week."""


class UploadComplete(In):
    """The parts in the order of the file."""

    part_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=MAX_PARTS)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None
    """Hex md5 of the whole file; validation compares it."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Hex sha256 of the whole file; as above."""


class PartPresign(In):
    """A part that goes straight to the store."""

    bytes: Annotated[int, Field(ge=1, le=5 * 2**30)]
    """Exact size of the part."""


class UploadOut(Listed):
    """An upload, in OpenAI's shape."""

    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    """`pending`, `completed`, `cancelled` or `expired`."""
    file: File | None
    """The file that completion made; its `id` is the data set's id and goes into `training_file`."""


class PartOut(Listed):
    """A part, in OpenAI's shape, and whether it arrived."""

    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
    status: Literal["received", "awaited"]
    """`awaited`: presigned, and not seen in the store yet."""
    bytes: int | None
    sha256: str | None
    """Hex; null where the part went straight to the store."""


class PresignedPart(Out):
    """Where to send a part: one PUT of its bytes."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
    method: Literal["PUT"] = "PUT"
    url: str
    expires_at: int


def upload_out(upload: Upload, dataset: Dataset | None) -> UploadOut:
    return UploadOut(
        id=upload.id,
        bytes=upload.bytes,
        created_at=int(upload.created_at),
        expires_at=int(upload.expires_at),
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.status,
        file=file_of_dataset(dataset) if dataset else None,
    )


def part_out(part: UploadPart, seen: ObjectInfo | None = None) -> PartOut:
    num_bytes = seen.bytes if seen else part.bytes
    return PartOut(
        id=part.id,
        created_at=int(part.created_at),
        upload_id=part.upload_id,
        status="awaited" if num_bytes is None else "received",
        bytes=num_bytes,
        sha256=part.sha256,
    )
