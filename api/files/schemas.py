from __future__ import annotations

from typing import Literal

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.schemas import Listed
from api.subjects.models import ResultFile
from api.vision_files.kind import VisionFile
from api.vision_files.service import PURPOSE as VISION

RESULTS = "fine-tune-results"
_STATUS: dict[str, Literal["uploaded", "processed", "error"]] = {
    DatasetStatus.VALIDATING: "uploaded",
    DatasetStatus.READY: "processed",
    DatasetStatus.INVALID: "error",
}


class File(Listed):
    """A data set, an image or a job's result file, in OpenAI's shape."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    """`fine-tune` (a data set), `vision` (an image) or `fine-tune-results`."""
    status: Literal["uploaded", "processed", "error"]
    """`uploaded` while it is validated, `processed` when it can be used, `error` when it is invalid."""
    status_details: str | None
    """Why the file is invalid."""
    sha256: str | None
    """Digest of the whole file, in hex; null before it is known."""


def file_of_dataset(dataset: Dataset) -> File:
    return File(
        id=dataset.id,
        bytes=dataset.bytes,
        created_at=int(dataset.created_at),
        filename=dataset.filename,
        purpose=dataset.purpose,
        status=_STATUS[dataset.status],
        status_details=dataset.error_message,
        sha256=dataset.sha256,
    )


def file_of_result(result: ResultFile) -> File:
    return File(
        id=result.id,
        bytes=result.bytes,
        created_at=int(result.created_at),
        filename=result.filename,
        purpose=RESULTS,
        status="processed",
        status_details=None,
        sha256=result.sha256,
    )


def file_of_image(image: VisionFile) -> File:
    stored = image.stored
    return File(
        id=image.id,
        bytes=stored.bytes,
        created_at=int(image.created_at),
        filename=stored.filename,
        purpose=VISION,
        status="processed",
        status_details=None,
        sha256=stored.sha256,
    )
