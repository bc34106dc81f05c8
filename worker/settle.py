"""What the end of an attempt means for its work item and its subject; for supervisors and for the sweep alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from api.analyses import lifecycle as analyses
from api.analyses.states import FINAL as ANALYSIS_FINAL
from api.analyses.states import AnalysisStatus
from api.comparisons import lifecycle as comparisons
from api.comparisons.repository import lock as lock_comparison
from api.comparisons.states import FINAL as COMPARISON_FINAL
from api.comparisons.states import ComparisonStatus
from api.datasets import lifecycle as datasets
from api.datasets.lifecycle import Finding
from api.datasets.states import DatasetStatus
from api.jobs import lifecycle as jobs
from api.jobs.states import FINAL, JobStatus
from api.retention_sets import lifecycle as retention_sets
from api.retention_sets.repository import lock as lock_retention_set
from api.retention_sets.states import FINAL as SET_FINAL
from api.retention_sets.states import RetentionSetStatus
from api.settings import Settings
from api.subjects import files as result_files
from api.subjects.files import StoredFile
from api.work import repository
from api.work.models import WorkItem
from api.work.states import WorkKind
from worker.failures import SUCCEEDED, Ending, Verdict, judge


class _Settle(Protocol):
    """How a kind of work ends."""

    def __call__(self, session: Session, item: WorkItem, ending: Ending, *, settings: Settings) -> None: ...


def admit(session: Session, item: WorkItem) -> bool:
    """Tell the subject that a worker has claimed it; False, and the item is done, if nobody wants it any more."""
    try:
        wanted = _BEGIN[WorkKind(item.kind)](session, item)
    except NoResultFound:  # the subject was deleted
        wanted = False
    if not wanted:
        repository.finish(session, item, "not_wanted")
    return wanted


def settle(session: Session, item: WorkItem, ending: Ending, *, settings: Settings) -> None:
    """End an attempt of any kind that brought no result of its own."""
    try:
        _SETTLE[WorkKind(item.kind)](session, item, ending, settings=settings)
    except NoResultFound:
        repository.finish(session, item, "not_wanted")


def settle_job(
    session: Session, item: WorkItem, ending: Ending, *, settings: Settings, files: Sequence[StoredFile] = ()
) -> None:
    """Move the job on by its attempt's ending, with the rows of its last result files. The item is locked."""
    job = jobs.lock(session, item.subject_id)
    result_files.add(session, job, files)
    end_step = jobs.newest_step(session, job.id)
    verdict = _verdict(session, item, ending, end_step=end_step, settings=settings)
    reason = ending.code
    if job.status in FINAL:
        reason = "not_wanted"
    elif ending.code == SUCCEEDED:
        jobs.succeeded(session, job)
    elif job.status == JobStatus.CANCELLING:
        jobs.cancelled(session, job)
        reason = "cancelled"
    elif job.status == JobStatus.PAUSING and (verdict.delay_s is not None or ending.code == "paused"):
        jobs.paused(session, job)
        reason = "paused"
    elif verdict.delay_s is not None and job.status == JobStatus.RUNNING:
        jobs.requeued(session, job, message=verdict.message)
        repository.requeue(session, item, reason, delay_s=verdict.delay_s, end_step=end_step)
        return
    else:
        jobs.failed(session, job, code=verdict.code, message=verdict.message, param=ending.param)
    repository.finish(session, item, reason, end_step=end_step)


def settle_dataset(
    session: Session, item: WorkItem, ending: Ending, *, settings: Settings, finding: Finding | None = None
) -> None:
    """Move the data set on: by what was found, or, where validation itself broke, by another attempt or as invalid."""
    dataset = datasets.lock(session, item.subject_id)
    if dataset.deleted_at is not None:
        repository.finish(session, item, "not_wanted")
        return
    if finding is None:
        verdict = _verdict(session, item, ending, end_step=None, settings=settings)
        if verdict.delay_s is not None:
            repository.requeue(session, item, ending.code, delay_s=verdict.delay_s)
            return
        finding = Finding(sha256=None, error_code=verdict.code, error_message=verdict.message)
    datasets.settle(session, dataset, finding)
    repository.finish(session, item, ending.code)


def settle_retention_set(
    session: Session, item: WorkItem, ending: Ending, *, settings: Settings, stored: StoredFile | None = None
) -> None:
    """Move the retention set on; an attempt after which more images are there counts as one that got on."""
    artifact = lock_retention_set(session, item.subject_id)
    reason, end_step = ending.code, artifact.done
    if artifact.status in SET_FINAL:  # nobody wants it any more
        reason = "cancelled" if artifact.status == RetentionSetStatus.CANCELLED else "not_wanted"
    elif stored is not None:
        retention_sets.succeeded(session, artifact, stored)
    else:
        verdict = _verdict(session, item, ending, end_step=end_step, settings=settings)
        if verdict.delay_s is not None:
            retention_sets.requeued(artifact)
            repository.requeue(session, item, reason, delay_s=verdict.delay_s, end_step=end_step)
            return
        retention_sets.failed(session, artifact, code=verdict.code, message=verdict.message)
    repository.finish(session, item, reason, end_step=end_step)


def settle_comparison(
    session: Session, item: WorkItem, ending: Ending, *, settings: Settings, files: Sequence[StoredFile] = ()
) -> None:
    """Move the comparison on by its report, or by why there is none."""
    comparison, reason = lock_comparison(session, item.subject_id), ending.code
    if comparison.status in COMPARISON_FINAL:
        reason = "not_wanted"
    elif comparison.cancel_requested_at is not None:
        comparisons.cancelled(comparison)
        reason = "cancelled"
    elif ending.code == SUCCEEDED:
        comparisons.succeeded(session, comparison, files)
    else:
        verdict = _verdict(session, item, ending, end_step=None, settings=settings)
        if verdict.delay_s is not None:
            repository.requeue(session, item, reason, delay_s=verdict.delay_s)
            return
        comparisons.failed(comparison, code=verdict.code, message=verdict.message, param=ending.param)
    repository.finish(session, item, reason)


def _begin_comparison(session: Session, item: WorkItem) -> bool:
    comparison = lock_comparison(session, item.subject_id)
    return comparison.status == ComparisonStatus.RUNNING and comparison.cancel_requested_at is None


def settle_analysis(
    session: Session, item: WorkItem, ending: Ending, *, settings: Settings, files: Sequence[StoredFile] = ()
) -> None:
    """Move the analysis on, with the rows of its files. The item is locked."""
    analysis = analyses.lock(session, item.subject_id)
    reason = ending.code
    if analysis.status in ANALYSIS_FINAL:
        reason = "cancelled" if analysis.status == AnalysisStatus.CANCELLED else "not_wanted"
    elif ending.code == SUCCEEDED:
        analyses.succeeded(session, analysis, files)
    else:
        verdict = _verdict(session, item, ending, end_step=None, settings=settings)
        if verdict.delay_s is not None:
            analyses.requeued(analysis)
            repository.requeue(session, item, reason, delay_s=verdict.delay_s)
            return
        analyses.failed(analysis, code=verdict.code, message=verdict.message, param=ending.param)
    repository.finish(session, item, reason)


def _begin_analysis(session: Session, item: WorkItem) -> bool:
    analysis = analyses.lock(session, item.subject_id)
    wanted = analysis.status == AnalysisStatus.QUEUED
    if wanted:
        analyses.started(analysis)
    return wanted


def _begin_dataset(session: Session, item: WorkItem) -> bool:
    dataset = datasets.lock(session, item.subject_id)
    return dataset.status == DatasetStatus.VALIDATING and dataset.deleted_at is None


def _begin_retention_set(session: Session, item: WorkItem) -> bool:
    artifact = lock_retention_set(session, item.subject_id)
    wanted = artifact.status == RetentionSetStatus.QUEUED
    if wanted:
        retention_sets.started(artifact)
        repository.begin_attempt(session, item, start_step=artifact.done)
    return wanted


def _begin_job(session: Session, item: WorkItem) -> bool:
    job = jobs.lock(session, item.subject_id)
    if job.status == JobStatus.CANCELLING:
        jobs.cancelled(session, job)
    wanted = job.status in {JobStatus.QUEUED, JobStatus.RESUMING}
    if wanted:
        jobs.started(session, job, attempt=item.fence)
        repository.begin_attempt(session, item, start_step=jobs.newest_step(session, job.id))
    return wanted


def _verdict(session: Session, item: WorkItem, ending: Ending, *, end_step: int | None, settings: Settings) -> Verdict:
    """The verdict over this attempt and those before it since the last one that saved a checkpoint."""
    earlier: list[str] = []
    for attempt in repository.attempts(session, item.id):
        if attempt.fence == item.fence:
            if (end_step or 0) > (attempt.start_step or 0):
                break
            continue
        if (attempt.end_step or 0) > (attempt.start_step or 0):
            break
        earlier.append(attempt.reason or "worker_lost")
    return judge(ending, earlier, max_attempts=settings.max_attempts, retry_delay_s=settings.retry_delay_s)


_BEGIN: dict[WorkKind, Callable[[Session, WorkItem], bool]] = {
    WorkKind.VALIDATE_DATASET: _begin_dataset,
    WorkKind.MAKE_RETENTION_SET: _begin_retention_set,
    WorkKind.TRAIN: _begin_job,
    WorkKind.ANALYSE: _begin_analysis,
    WorkKind.COMPARE: _begin_comparison,
}
_SETTLE: dict[WorkKind, _Settle] = {
    WorkKind.VALIDATE_DATASET: settle_dataset,
    WorkKind.MAKE_RETENTION_SET: settle_retention_set,
    WorkKind.TRAIN: settle_job,
    WorkKind.ANALYSE: settle_analysis,
    WorkKind.COMPARE: settle_comparison,
}
