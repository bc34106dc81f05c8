"""Images that a job's two data sets share, told as soon as it is submitted; the trainer compares pixels too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import structlog
from sqlalchemy.orm import Session

from api.datasets.items import lines_of
from api.datasets.models import Dataset
from api.db import is_busy
from api.deps import Services
from api.errors import ServiceError
from api.jobs import events
from api.jobs.models import Job
from api.storage import ObjectStore
from api.subjects.repository import find

_MOST_BYTES = 64 << 20  # of both lists, about 300,000 images; the trainer compares those of larger sets
log = structlog.get_logger(__name__)


async def tell_shared(
    used: Services, tenant_id: str, job_ids: Sequence[str], training_file: str, validation_file: str | None
) -> None:
    """Warn in each job's events of validation images that have the sha256 of a training image.

    Nothing is said where a data set is not validated yet, or both are one, which submission itself says.
    """
    if validation_file is None or validation_file == training_file:
        return

    def keys_of(session: Session) -> list[str]:
        found = [find(session, Dataset, tenant_id, id_) for id_ in (training_file, validation_file)]
        return [dataset.items_key for dataset in found if dataset is not None and dataset.items_key]

    def tell(session: Session, message: str) -> None:
        for job_id in job_ids:
            job = find(session, Job, tenant_id, job_id)
            if job is not None:
                events.append(session, job, "message", message, level="warn")

    try:
        keys = await used.units.read(tenant_id, keys_of)
        if len(keys) < 2:  # noqa: PLR2004  two data sets
            return
        shared, count = await used.units.other(tenant_id, lambda: count_shared(used.store, *keys))
        if shared:
            await used.units.write(tenant_id, lambda session: tell(session, _sentence(shared, count)))
    except Exception as error:
        if not (isinstance(error, ServiceError | FileNotFoundError) or is_busy(error)):
            raise
        log.warning("shared_images_not_told", jobs=list(job_ids), error=str(error))


def count_shared(store: ObjectStore, training_key: str, validation_key: str) -> tuple[int, int]:
    """Count the images of the second list of items that are in the first, and all of it; (0, 0) of lists too long.

    Raises:
        FileNotFoundError: a list is not there.
    """
    if store.stat(training_key).bytes + store.stat(validation_key).bytes > _MOST_BYTES:
        return 0, 0
    trained_on = set(_contents(store, training_key))
    judged_by = list(_contents(store, validation_key))
    return sum(content in trained_on for content in judged_by), len(judged_by)


def _contents(store: ObjectStore, key: str) -> Iterator[bytes]:
    for _, line in lines_of(store.read(key), 0):
        if sha256 := json.loads(line).get("sha256"):
            yield bytes.fromhex(sha256)


def _sentence(shared: int, count: int) -> str:
    are = "is an image" if shared == 1 else "are images"
    told = f"{shared} of {count} images of the validation file {are} of the training file too"
    return f"{told}: the result is judged by images that it was trained on."
