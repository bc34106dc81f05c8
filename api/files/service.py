"""Data sets, images and result files as OpenAI's clients see them: one list of files."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api.datasets import service as dataset_service
from api.datasets.models import Dataset
from api.errors import not_found
from api.files.schemas import RESULTS, File, file_of_dataset, file_of_image, file_of_result
from api.ids import cursor
from api.jobs.models import Job
from api.subjects import repository
from api.subjects.models import ResultFile
from api.vision_files import service as images
from api.vision_files.kind import VisionFile

PREFIX = "file"  # ids of result files; data sets have `ds`
DATASETS = "fine-tune"


def result(session: Session, tenant_id: str, file_id: str) -> ResultFile:
    """A job's result file.

    Raises:
        NotFoundError: the tenant has none with this id.
    """
    found = session.scalar(_of_jobs(tenant_id).where(ResultFile.id == file_id))
    if found is None:
        raise not_found("file", file_id)
    return found


def find(session: Session, tenant_id: str, file_id: str) -> Dataset | VisionFile | ResultFile:
    """A data set, an image or a result file.

    Raises:
        NotFoundError: the tenant has none with this id.
    """
    found = repository.find(session, Dataset, tenant_id, file_id)
    image = found or repository.find(session, VisionFile, tenant_id, file_id)
    return image or result(session, tenant_id, file_id)


def delete(session: Session, tenant_id: str, file_id: str) -> list[str]:
    """Delete a data set, an image or a result file; returns the keys to delete after the commit.

    Raises:
        NotFoundError: the tenant has none with this id.
        ConflictError: a job that is not final uses the data set.
    """
    found = find(session, tenant_id, file_id)
    if isinstance(found, Dataset):
        return dataset_service.delete(session, tenant_id, file_id)
    if isinstance(found, VisionFile):
        return images.delete(session, tenant_id, file_id)
    session.delete(found)
    return [found.key]


def page(
    session: Session, tenant_id: str, *, purpose: str | None, after: str | None, limit: int, ascending: bool
) -> list[File]:
    """Up to `limit` files beyond the id `after`, of all kinds, in order of the time in their ids.

    Raises:
        InvalidInputError: `after` is no id of a file.
    """
    moment = (cursor(after, PREFIX, "ds") or "").partition("_")[2]
    files: list[File] = []
    order: Literal["asc", "desc"] = "asc" if ascending else "desc"
    if purpose in {None, DATASETS}:
        since = f"ds_{moment}" if moment else None
        rows = repository.page(session, Dataset, tenant_id, after=since, limit=limit, order=order)
        files += map(file_of_dataset, rows)
    if purpose in {None, RESULTS}:
        since = f"{PREFIX}_{moment}" if moment else None
        files += map(file_of_result, _results(session, tenant_id, after=since, limit=limit, ascending=ascending))
    if purpose in {None, images.PURPOSE}:
        since = f"{PREFIX}_{moment}" if moment else None
        shown = repository.page(session, VisionFile, tenant_id, after=since, limit=limit, order=order)
        files += map(file_of_image, shown)
    return sorted(files, key=lambda file: file.id.partition("_")[2], reverse=not ascending)[:limit]


def _results(session: Session, tenant_id: str, *, after: str | None, limit: int, ascending: bool) -> list[ResultFile]:
    query = repository.paged(_of_jobs(tenant_id), ResultFile.id, after=after, limit=limit, ascending=ascending)
    return list(session.scalars(query))


def _of_jobs(tenant_id: str) -> Select[ResultFile]:
    """The tenant's result files; those of other subjects are reports of theirs, and no files of OpenAI's."""
    return select(ResultFile).join(Job, Job.id == ResultFile.subject_id).where(ResultFile.tenant_id == tenant_id)
