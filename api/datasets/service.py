"""Data sets: uploaded archives of images, validated once, then used by jobs until they are deleted."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.errors import NotYetError
from api.ids import new_id
from api.subjects.kinds import refuse_used
from api.subjects.repository import get
from api.work import service as work
from api.work.states import WorkKind
from difftune_core.config.dataset import DatasetOptions


def create(
    session: Session,
    tenant_id: str,
    *,
    filename: str,
    purpose: str,
    parts: list[dict[str, Any]],
    expected_md5: str | None = None,
    expected_sha256: str | None = None,
    dataset_id: str | None = None,
    options: DatasetOptions | None = None,
) -> Dataset:
    """A data set that is `validating`, with the work item that validates it."""
    dataset = Dataset(
        id=dataset_id or new_id("ds"),
        tenant_id=tenant_id,
        status=DatasetStatus.VALIDATING,
        filename=filename,
        purpose=purpose,
        bytes=sum(part["bytes"] for part in parts),
        parts=parts,
        expected_md5=expected_md5,
        expected_sha256=expected_sha256,
        options=options.model_dump() if options else None,
        created_at=time.time(),
    )
    session.add(dataset)
    work.enqueue(session, WorkKind.VALIDATE_DATASET, dataset.id, tenant_id=tenant_id)
    return dataset


def settled(session: Session, tenant_id: str, dataset_id: str) -> Dataset:
    """A data set whose validation has ended.

    Raises:
        NotFoundError: there is none.
        NotYetError: it is still validating.
    """
    dataset = get(session, Dataset, tenant_id, dataset_id)
    if dataset.status == DatasetStatus.VALIDATING:
        message = f"The data set {dataset_id} is still being validated."
        raise NotYetError("dataset_validating", message, retry_after_s=5)
    return dataset


def delete(session: Session, tenant_id: str, dataset_id: str) -> list[str]:
    """Delete a data set that no live job uses; returns the keys to delete after the commit.

    The row stays, marked, for the jobs that used it.

    Raises:
        NotFoundError: there is none.
        NotYetError: a job or an analysis that is not final uses it, or a retention set is being made from it.
    """
    dataset = get(session, Dataset, tenant_id, dataset_id, lock=True)
    refuse_used(session, tenant_id, [dataset_id], "dataset_in_use", f"The data set {dataset_id} is")
    dataset.deleted_at = time.time()
    return dataset.keys
