"""How a job gets another status, whoever decides it: the API, its data sets, or a worker."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from api.jobs import events
from api.jobs.models import Job
from api.jobs.states import JobStatus
from api.subjects.kinds import announce


def move(session: Session, job: Job, status: JobStatus, message: str, *, level: str = "info") -> None:
    """Change the status and say so: every change of status goes through here.

    Raises:
        ValueError: the transition is not allowed.
    """
    job.set_status(status)
    session.flush()
    events.append(session, job, "status", message, data={"status": str(status)}, level=level)
    announce(session, job)


def cancelled(session: Session, job: Job) -> None:
    """The job was cancelled. Its checkpoints stay."""
    end(session, job, JobStatus.CANCELLED, "Fine-tuning job cancelled")


def failed(session: Session, job: Job, *, code: str, message: str, param: str | None) -> None:
    """The job has failed for a reason that the user sees. What was saved stays."""
    job.error_code, job.error_message, job.error_param = code[:64], message[:4000], param[:255] if param else None
    end(session, job, JobStatus.FAILED, f"Fine-tuning job failed: {message}"[:4000], level="error")


def end(session: Session, job: Job, status: JobStatus, message: str, *, level: str = "info") -> None:
    """Give the job a final status."""
    job.finished_at = time.time()
    reset_phase(job, None)
    move(session, job, status, message, level=level)


def reset_phase(job: Job, phase: str | None) -> None:
    """Count from nothing in a new phase, or, with None, in no phase."""
    job.phase, job.phase_done, job.phase_total = phase, None, None
