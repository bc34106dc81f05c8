"""Which checkpoints of a job stay: `checkpoints.keep_last`, and what is needed beyond.

A checkpoint that somebody needs at the moment is passed over, and looked at again by the sweep.
"""

from __future__ import annotations

import time

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.checkpoints import repository
from api.jobs import events
from api.jobs.models import Checkpoint, Job
from api.jobs.states import FINAL
from api.subjects.kinds import users_of

_DOWNLOAD_S = 86_400.0
"""Seconds within which a download is over that began when its link ended."""


def collect_surplus(session: Session, job: Job, *, spared: int | None = None) -> list[str]:
    """Forget the checkpoints of a locked job beyond the newest `keep_last`; keys to delete after the commit.

    Never the best, the result, what the unfinished job may go on from, what an unfinished analysis looks at, what may
    be downloading, or the one of step `spared`.
    """
    keep = job.transfer.checkpoints.keep_last
    if keep is None:
        return []
    keys, steps = [], []
    for checkpoint in repository.beyond_newest(session, job.id, keep):
        if checkpoint.step != spared and not _is_needed(session, job, checkpoint):
            keys += repository.remove(session, checkpoint)
            steps.append(checkpoint.step)
    if steps:
        which = f"checkpoint of step {steps[0]}"
        if len(steps) > 1:
            which = f"checkpoints of steps {', '.join(map(str, sorted(steps)))}"
        message = f"Deleted the {which}: checkpoints.keep_last is {keep}."
        events.append(session, job, "message", message[:4000])
    return keys


def jobs_with_surplus(session: Session) -> list[str]:
    """Ids of jobs that have more checkpoints than they keep, needed or not."""
    keep = Job.config["checkpoints"]["keep_last"].as_integer()
    count = select(func.count()).where(Checkpoint.job_id == Job.id).scalar_subquery()
    return list(session.scalars(select(Job.id).where(keep.is_not(None), count > keep).order_by(Job.id)))


def _is_needed(session: Session, job: Job, checkpoint: Checkpoint) -> bool:
    if checkpoint.id in {job.best_checkpoint, job.fine_tuned_model}:
        return True
    if checkpoint.resume_available and job.status not in FINAL:
        return True
    if checkpoint.linked_until is not None and checkpoint.linked_until + _DOWNLOAD_S > time.time():
        return True
    return any(users_of(session, job.tenant_id, checkpoint.id).values())
