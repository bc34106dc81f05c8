from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.datasets import lifecycle
from api.datasets.lifecycle import Finding
from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.subjects.kinds import Kind
from api.work.endings import Outcome, Settled
from api.work.models import WorkItem
from api.work.states import WorkKind


class _Validation(Kind):
    """The validation of data sets. A bad data set is a result, not a failure."""

    name = WorkKind.VALIDATE_DATASET
    folder = "datasets"
    noun = "data set"
    child = "validation"
    activity = "worker.kinds.validation:Validation"

    def named(self, session: Session, subject_id: str | None = None) -> dict[str, str | None]:
        """Name the file's parts, and what its validation has left."""
        query = select(Dataset).where(Dataset.deleted_at.is_(None))
        if subject_id is not None:
            query = query.where(Dataset.id == subject_id)
        return dict.fromkeys(key for dataset in session.scalars(query) for key in dataset.keys)

    def brought_bytes(self, session: Session, tenant_id: str) -> int:
        """Count the files of data sets that are not deleted."""
        query = select(func.sum(Dataset.bytes)).where(Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
        return int(session.scalar(query) or 0)

    def admit(self, session: Session, item: WorkItem) -> bool:
        dataset = lifecycle.lock(session, item.subject_id)
        return dataset.status == DatasetStatus.VALIDATING and dataset.deleted_at is None

    def settle(self, session: Session, subject_id: str, outcome: Outcome) -> Settled:
        """Settle the data set by what was found; where validation itself broke, try again or call it invalid."""
        dataset, finding, verdict = lifecycle.lock(session, subject_id), outcome.found, outcome.verdict
        if dataset.deleted_at is not None:
            return Settled("not_wanted")
        if outcome.again:
            return Settled(outcome.ending.code, again=True)
        if verdict is not None:
            finding = Finding(sha256=None, error_code=verdict.code, error_message=verdict.message)
        lifecycle.settle(session, dataset, finding)
        return Settled(outcome.ending.code, kept=verdict is None)


VALIDATION = _Validation()
