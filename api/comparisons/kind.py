from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from sqlalchemy.orm import Session

from api.comparisons import lifecycle, repository
from api.comparisons.models import Comparison
from api.errors import ConflictError
from api.jobs import service as jobs
from api.jobs.models import Job
from api.jobs.removal import delete_job
from api.jobs.states import FINAL as JOB_FINAL
from api.jobs.states import JobStatus
from api.subjects.owned import OwnedKind
from api.subjects.repository import open_work
from api.subjects.states import FINAL, Status
from api.work import service as work
from api.work.models import WorkItem
from api.work.states import WorkKind


class _Comparisons(OwnedKind[Comparison]):
    """The joint reports of comparisons. A comparison runs while its jobs do, its work item only makes the report."""

    name = WorkKind.COMPARE
    folder = "comparisons"
    noun = "comparison"
    child = "comparison"
    activity = "worker.kinds.comparison:Comparing"
    uses = frozenset({"ftjob"})
    row = Comparison

    def users(self, session: Session, tenant_id: str, ids: Collection[str]) -> list[str]:
        """List the comparisons that jobs belong to, final ones too."""
        del tenant_id
        return sorted({found for job_id in ids if (found := repository.of_job(session, job_id)) is not None})

    def admit(self, session: Session, item: WorkItem) -> bool:
        """Want the report of a comparison that runs, as it does since its first job began."""
        comparison = self.lock(session, item.subject_id)
        return comparison.status == Status.RUNNING and not self.is_cancel_requested(comparison)

    def is_cancel_requested(self, subject: Comparison) -> bool:
        """Return whether the comparison's cancel is requested: it ends with the last that is at work on it."""
        return subject.cancel_requested_at is not None

    def requeue(self, subject: Comparison) -> None:
        """Let the comparison go on running."""

    def cancel(self, session: Session, tenant_id: str, id_: str) -> Comparison:
        """Cancel each job that is not final; the comparison ends with the last of them, without a report.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is final, or is being cancelled already.
        """
        self.get(session, tenant_id, id_)
        item = open_work(session, id_)
        repository.lock_work_of_jobs(session, id_)  # before the comparison, as everywhere
        comparison = self.lock(session, id_)
        if comparison.status in FINAL or self.is_cancel_requested(comparison):
            state = comparison.status if comparison.status in FINAL else "being cancelled"
            message = f"Comparison {id_} is {state} and cannot be cancelled."
            raise ConflictError("comparison_not_cancellable", message)
        comparison.cancel_requested_at = time.time()
        session.flush()
        for member in repository.members_of(session, [id_])[id_]:
            if member.job.status not in {*JOB_FINAL, JobStatus.CANCELLING}:
                jobs.request_cancel(session, member.job)
        if item is not None and not work.request_stop(item):
            comparison.end(Status.CANCELLED)
        return comparison

    def delete(self, session: Session, tenant_id: str, id_: str, *, with_jobs: bool = False) -> list[str]:
        """Delete a final comparison with its report. Its jobs become jobs like any other, or go with it.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is not final; or one of the jobs that are to go with it is in use, and then nothing goes.
        """
        self.get(session, tenant_id, id_)
        open_work(session, id_)
        repository.lock_work_of_jobs(session, id_)
        job_ids = [member.job.id for member in repository.members_of(session, [id_])[id_]]
        keys = super().delete(session, tenant_id, id_)
        for job_id in job_ids if with_jobs else []:
            keys += delete_job(session, tenant_id, job_id)
        return keys

    def moved(self, session: Session, other: Any) -> None:
        """Move the comparison on whose job began or ended."""
        if isinstance(other, Job):
            lifecycle.job_moved(session, other)


COMPARISONS = _Comparisons()
