"""Which objects rows name: what the sweep must not collect, and what a backup must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.checkpoints.models import Checkpoint
from api.datasets.models import Dataset
from api.retention_sets.models import RetentionArtifact
from api.subjects.models import ResultFile
from api.uploads.models import Upload, UploadPart
from api.uploads.states import UploadStatus


def named_keys(session: Session) -> dict[str, str | None]:
    """Every object that a row names, with its sha256 where the row knows it."""
    found: dict[str, str | None] = {}
    for kind in (ResultFile, RetentionArtifact):
        found |= {row.key: row.sha256 for row in session.execute(select(kind.key, kind.sha256)) if row.key}
    for files in session.scalars(select(Checkpoint.files)):
        found |= {file["key"]: file["sha256"] for file in files}
    for dataset in session.scalars(select(Dataset).where(Dataset.deleted_at.is_(None))):
        found |= dict.fromkeys(_of_dataset(dataset))
    pending = select(UploadPart.key, UploadPart.sha256).join(Upload).where(Upload.status == UploadStatus.PENDING)
    found |= {row.key: row.sha256 for row in session.execute(pending.where(UploadPart.bytes.is_not(None)))}
    return found


def owner_of(session: Session, key: str) -> str:
    """Whose an object is, in words: its key names the subject; the parts of a data set are named by its row."""
    folder, _, rest = key.partition("/")
    subject_id = rest.partition("/")[0]
    if folder == "uploads":
        holds_it = cast(Dataset.parts, Text).contains(f'"{key}"', autoescape=True)
        dataset_id = session.scalar(select(Dataset.id).where(holds_it).limit(1))
        if dataset_id is not None:
            folder, subject_id = "datasets", dataset_id
    return f"{_OWNERS[folder]} {subject_id}" if folder in _OWNERS else "nobody that is known"


def _of_dataset(dataset: Dataset) -> set[str]:
    keys = {part["key"] for part in dataset.parts}
    return keys | {key for key in (dataset.report_key, dataset.items_key) if key}


def _datasets(session: Session, dataset_id: str) -> set[str]:
    dataset = session.get(Dataset, dataset_id)
    return _of_dataset(dataset) if dataset is not None and dataset.deleted_at is None else set()


def _uploads(session: Session, upload_id: str) -> set[str]:
    """Of one that became a data set, what the data set names; else its parts, until the sweep has forgotten them."""
    upload = session.get(Upload, upload_id)
    if upload is None:
        return set()
    if upload.dataset_id is not None:
        return _datasets(session, upload.dataset_id)
    return set(session.scalars(select(UploadPart.key).where(UploadPart.upload_id == upload_id)))


def _jobs(session: Session, job_id: str) -> set[str]:
    rows = session.scalars(select(Checkpoint.files).where(Checkpoint.job_id == job_id))
    return {file["key"] for files in rows for file in files} | _results(session, job_id)


def _results(session: Session, subject_id: str) -> set[str]:
    return _keys(session, ResultFile.key, ResultFile.subject_id == subject_id)


def _retention_sets(session: Session, artifact_id: str) -> set[str]:
    return _keys(session, RetentionArtifact.key, RetentionArtifact.id == artifact_id)


def _keys(session: Session, column: InstrumentedAttribute[Any], of: ColumnElement[bool]) -> set[str]:
    return {key for key in session.scalars(select(column).where(of)) if key}


NAMED: dict[str, Callable[[Session, str], set[str]]] = {
    "datasets": _datasets,
    "uploads": _uploads,
    "jobs": _jobs,
    "analyses": _results,
    "comparisons": _results,
    "retention_sets": _retention_sets,
}
"""What the rows name, by the first part of a key; everything else in the store is left alone."""
_OWNERS = {
    "datasets": "data set",
    "uploads": "upload",
    "jobs": "job",
    "analyses": "analysis",
    "comparisons": "comparison",
    "retention_sets": "retention set",
    "models": "model",
}
