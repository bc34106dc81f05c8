from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.jobs import lifecycle, moves, service
from api.jobs.models import Checkpoint, Job
from api.jobs.states import FINAL, JobStatus
from api.retention_sets.models import RetentionArtifact
from api.subjects import files
from api.subjects.kinds import Kind
from api.work import repository as work
from api.work.endings import Outcome, Settled
from api.work.models import WorkItem
from api.work.states import WorkKind

_WAITING = {JobStatus.QUEUED, JobStatus.RESUMING}


class _Training(Kind):
    """Fine-tuning jobs."""

    name = WorkKind.TRAIN
    folder = "jobs"
    noun = "job"
    child = "trainer"
    activity = "worker.kinds.training:Training"
    uses = frozenset({"ds", "rset", "ckpt"})

    def named(self, session: Session, subject_id: str | None = None) -> dict[str, str | None]:
        """Name the files of checkpoints."""
        query = select(Checkpoint.files)
        if subject_id is not None:
            query = query.where(Checkpoint.job_id == subject_id)
        return {file["key"]: file["sha256"] for stored in session.scalars(query) for file in stored}

    def users(self, session: Session, tenant_id: str, ids: Collection[str]) -> list[str]:
        """List the jobs that are not final and name one of these."""
        columns = (Job.training_file, Job.validation_file, Job.retention_set, Job.start_checkpoint)
        named = or_(*(column.in_(ids) for column in columns))
        query = select(Job.id).where(Job.tenant_id == tenant_id, named, Job.status.not_in(FINAL))
        return list(session.scalars(query.order_by(Job.id)))

    def admit(self, session: Session, item: WorkItem) -> bool:
        job = lifecycle.lock(session, item.subject_id)
        if job.status == JobStatus.CANCELLING:
            moves.cancelled(session, job)
        if job.status not in _WAITING:
            return False
        lifecycle.started(session, job, attempt=item.fence)
        work.begin_attempt(session, item, start_step=lifecycle.newest_step(session, job.id))
        return True

    def got_to(self, session: Session, subject_id: str) -> int:
        """Give the step of the newest checkpoint."""
        return lifecycle.newest_step(session, subject_id)

    def settle(self, session: Session, subject_id: str, outcome: Outcome) -> Settled:
        """Move the job on, with the rows of its last result files, whatever came of the attempt."""
        job = lifecycle.lock(session, subject_id)
        files.add(session, job, outcome.files)
        ending, verdict = outcome.ending, outcome.verdict
        reason = ending.code
        if job.status in FINAL:
            reason = "not_wanted"
        elif verdict is None:
            lifecycle.succeeded(session, job)
        elif job.status == JobStatus.CANCELLING:
            moves.cancelled(session, job)
            reason = "cancelled"
        elif job.status == JobStatus.PAUSING and (outcome.again or reason == "paused"):
            lifecycle.paused(session, job)
            return Settled("paused", over=False, kept=True)
        elif outcome.again and job.status == JobStatus.RUNNING:
            lifecycle.requeued(session, job, message=verdict.message)
            return Settled(reason, again=True, over=False, kept=True)
        else:
            moves.failed(session, job, code=verdict.code, message=verdict.message, param=ending.param)
        return Settled(reason, kept=True)

    def moved(self, session: Session, other: Any) -> None:
        """Let jobs that waited for a data set or a retention set go on, or end with it."""
        if isinstance(other, Dataset):
            service.dataset_settled(session, other)
        elif isinstance(other, RetentionArtifact):
            service.retention_set_settled(session, other)


TRAINING = _Training()
