"""Results of jobs and their checkpoints as models: found, listed and deleted by their tenant, beside the base models.

A tuned model's id is that of its checkpoint: what a job has as `fine_tuned_model`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.checkpoints import repository
from api.checkpoints import service as checkpoints
from api.errors import ForbiddenError, InvalidInputError, NotYetError, not_found
from api.jobs import events
from api.jobs.models import Checkpoint, Job
from api.jobs.states import FINAL
from api.subjects.kinds import refuse_used
from api.subjects.repository import paged
from difftune_core.config.origin import CHECKPOINT_ID


@dataclass(frozen=True)
class TunedModel:
    """A checkpoint, and the job that made it."""

    checkpoint: Checkpoint
    job: Job


def is_tuned(model_id: str) -> bool:
    """Return whether the id is one of a tuned model, there or not."""
    return re.fullmatch(CHECKPOINT_ID, model_id) is not None


def behind(ids: Sequence[str], after: str | None) -> int:
    """Return how many of a list of models a page passes over that begins behind `after`; tuned ones follow the others.

    Raises:
        InvalidInputError: it is in no such list.
    """
    if after in {None, ""}:
        return 0
    if is_tuned(str(after)):
        return len(ids)
    if after not in ids:
        message = f"{after!r} is no model of this list."
        raise InvalidInputError("invalid_cursor", message, param="after", pointer=None)
    return ids.index(after) + 1


def tuned(session: Session, tenant_id: str, model_id: str) -> TunedModel:
    """The tenant's tuned model.

    Raises:
        NotFoundError: there is none.
    """
    checkpoint = repository.find(session, tenant_id, model_id)
    if checkpoint is None:
        raise not_found("model", model_id)
    return TunedModel(checkpoint, session.get_one(Job, checkpoint.job_id))


def page(session: Session, tenant_id: str, *, after: str | None, limit: int) -> Sequence[TunedModel]:
    """Up to `limit` of the tenant's tuned models beyond the id `after`, the newest first."""
    query = select(Checkpoint).where(Checkpoint.tenant_id == tenant_id)
    found = list(session.scalars(paged(query, Checkpoint.id, after=after, limit=limit, ascending=False)))
    jobs = session.scalars(select(Job).where(Job.id.in_({row.job_id for row in found})))
    by_id = {job.id: job for job in jobs}
    return [TunedModel(row, by_id[row.job_id]) for row in found]


def delete(session: Session, tenant_id: str, model_id: str) -> list[str]:
    """Delete a tuned model, the result of a job too, which then has none; keys to delete after the commit.

    Raises:
        ForbiddenError: it is a base model, which is the operator's.
        NotFoundError: there is none.
        NotYetError: its job may go on from it, or a job, an analysis or images in the queue or in work need it.
    """
    if not is_tuned(model_id):
        message = f"{model_id!r} is no model of yours: the operator brings base models in and removes them."
        raise ForbiddenError("model_not_deletable", message, param="model")
    job_id = tuned(session, tenant_id, model_id).job.id
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    if job.fine_tuned_model != model_id:
        return checkpoints.delete(session, tenant_id, model_id)
    checkpoint = checkpoints.get(session, tenant_id, model_id, lock="write")  # who is about to name it is waited for
    if job.status not in FINAL:
        raise NotYetError("checkpoint_in_use", f"Job {job.id} is {job.status}.", jobs=[job.id])
    refuse_used(session, tenant_id, [model_id], "checkpoint_in_use", f"The model {model_id} is")
    job.fine_tuned_model = None
    if job.best_checkpoint == model_id:
        job.best_checkpoint = None
    events.append(session, job, "message", f"Deleted the model {model_id}, the job's result")
    return repository.remove(session, checkpoint)
