"""How a validation ends, in the caller's transaction, which holds the data set's work item."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.subjects.kinds import announce

_LISTS = ("errors", "warnings", "skipped_files", "ignored_files")
_MAX_LISTED = 100
_COUNTED = {"errors": "errors", "warnings": "warnings", "skipped": "skipped_files"}


@dataclass(frozen=True)
class Finding:
    """What a validation found. `report` has the shape of the child's `report.json`, or is None if there was none."""

    sha256: str | None
    report: dict[str, Any] | None = None
    report_key: str | None = None
    items_key: str | None = None
    previews_key: str | None = None
    error_code: str | None = None
    """Set where the file cannot be used."""
    error_message: str | None = None


def lock(session: Session, dataset_id: str) -> Dataset:
    """The data set, locked for the rest of the transaction."""
    query = select(Dataset).where(Dataset.id == dataset_id).with_for_update(key_share=True)
    return session.scalars(query, execution_options={"populate_existing": True}).one()


def settle(session: Session, dataset: Dataset, finding: Finding) -> None:
    """The data set becomes ready or invalid, once; who waited for it is told."""
    if dataset.status != DatasetStatus.VALIDATING:
        return
    report = finding.report
    dataset.sha256 = finding.sha256
    dataset.report_key, dataset.items_key = finding.report_key, finding.items_key
    dataset.previews_key = finding.previews_key
    if report is not None:
        shown = {name: report[name][:_MAX_LISTED] for name in _LISTS if name in report}
        counts = {f"num_{name}": len(report[of]) for name, of in _COUNTED.items() if of in report}
        dataset.report = {**report, **shown, **counts}
        dataset.num_items, dataset.class_names = report.get("num_items"), report.get("class_names")
    dataset.error_code = finding.error_code[:64] if finding.error_code else None
    dataset.error_message = finding.error_message[:2000] if finding.error_message else None
    dataset.set_status(DatasetStatus.INVALID if finding.error_code else DatasetStatus.READY)
    dataset.settled_at = time.time()
    session.flush()
    announce(session, dataset)
