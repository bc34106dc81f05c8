"""What a worker does to an analysis, each in the caller's transaction, which holds its work item."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.analyses.models import Analysis
from api.analyses.states import AnalysisStatus
from api.subjects import files as result_files
from api.subjects.files import StoredFile


def lock(session: Session, analysis_id: str) -> Analysis:
    """The analysis, locked for the rest of the transaction."""
    query = select(Analysis).where(Analysis.id == analysis_id).with_for_update()
    return session.scalars(query, execution_options={"populate_existing": True}).one()


def started(analysis: Analysis) -> None:
    """A worker has claimed it."""
    analysis.started_at = analysis.started_at or time.time()
    analysis.set_status(AnalysisStatus.RUNNING)


def progressed(analysis: Analysis, *, done: int, total: int) -> None:
    """`done` of `total` images are drawn and judged."""
    analysis.done, analysis.total = done, total


def requeued(analysis: Analysis) -> None:
    """The attempt is over and another follows."""
    analysis.set_status(AnalysisStatus.QUEUED)


def succeeded(session: Session, analysis: Analysis, files: Sequence[StoredFile]) -> None:
    """Its files are in the store."""
    result_files.add(session, analysis, files)
    analysis.done = analysis.total
    _end(analysis, AnalysisStatus.SUCCEEDED)


def failed(analysis: Analysis, *, code: str, message: str, param: str | None) -> None:
    """It has failed for a reason that the user sees."""
    analysis.error_code, analysis.error_message = code[:64], message[:2000]
    analysis.error_param = param[:255] if param else None
    _end(analysis, AnalysisStatus.FAILED)


def _end(analysis: Analysis, status: AnalysisStatus) -> None:
    analysis.set_status(status)
    analysis.finished_at = time.time()
