"""What a comparison's jobs do to it, each in the caller's transaction.

Rows are locked work item first, then job, then comparison: the last of two jobs that end at once sees both ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.comparisons import repository
from api.comparisons.models import Comparison
from api.comparisons.repository import Member
from api.jobs.models import Job
from api.jobs.states import FINAL as JOB_FINAL
from api.jobs.states import JobStatus
from api.subjects.models import ResultFile
from api.subjects.repository import lock
from api.subjects.states import FINAL, Status
from api.work import service as work
from api.work.states import WorkKind
from difftune_core.config.comparison import MissingRun

_NAMED = 3  # failed jobs in a message


def job_moved(session: Session, job: Job) -> None:
    """A job, which the caller has locked, has a new status."""
    if job.status != JobStatus.RUNNING and job.status not in JOB_FINAL:
        return
    comparison_id = repository.of_job(session, job.id)
    if comparison_id is None:
        return
    comparison = lock(session, Comparison, comparison_id)
    if job.status == JobStatus.RUNNING and comparison.status == Status.QUEUED:
        comparison.begin()
    elif job.status in JOB_FINAL and comparison.status not in FINAL:
        members = repository.members_of(session, [comparison.id])[comparison.id]
        if all(member.job.status in JOB_FINAL for member in members):
            _jobs_ended(session, comparison, members)


def missing_runs(members: Sequence[Member]) -> list[MissingRun]:
    """Jobs that did not succeed, with the reason."""
    return [
        MissingRun(method=member.method, seed=member.seed, reason=_reason(member.job))
        for member in members
        if member.job.status != JobStatus.SUCCEEDED
    ]


def job_files(session: Session, job_ids: list[str], kind: str) -> dict[str, ResultFile]:
    """Return each job's newest result file of a kind."""
    of_jobs = (ResultFile.subject_id.in_(job_ids), ResultFile.kind == kind)
    found = session.scalars(select(ResultFile).where(*of_jobs).order_by(ResultFile.step))
    return {file.subject_id: file for file in found}


def _jobs_ended(session: Session, comparison: Comparison, members: list[Member]) -> None:
    """Queue the report's making, or say why there is none."""
    everyone_cancelled = all(member.job.status == JobStatus.CANCELLED for member in members)
    if comparison.cancel_requested_at is not None or everyone_cancelled:
        comparison.end(Status.CANCELLED)
    elif _has_pair(members):
        if comparison.status == Status.QUEUED:  # a job may end without ever having run
            comparison.set_status(Status.RUNNING)
        work.enqueue(
            session, WorkKind.COMPARE, comparison.id, tenant_id=comparison.tenant_id, priority=comparison.priority
        )
    else:
        comparison.fail(code="too_few_runs", message=_too_few(members))


def _has_pair(members: list[Member]) -> bool:
    """Return whether two methods have succeeded with the same seed."""
    seeds = Counter(member.seed for member in members if member.job.status == JobStatus.SUCCEEDED)
    return any(count > 1 for count in seeds.values())


def _too_few(members: list[Member]) -> str:
    missing = missing_runs(members)
    named = "; ".join(f"{run.method} (seed {run.seed}) {run.reason}" for run in missing[:_NAMED])
    more = f"; and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"No two methods have succeeded with the same seed, so there is nothing to compare: {named}{more}."


def _reason(job: Job) -> str:
    return f"{job.status}: {job.error_message}" if job.error_message else job.status
