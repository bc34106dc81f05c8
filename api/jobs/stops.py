"""Pausing a job and going on with it."""

from __future__ import annotations

import json

from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.errors import ConflictError, NotYetError
from api.jobs import lifecycle, repository, retention
from api.jobs.models import Checkpoint, Job
from api.jobs.moves import move
from api.jobs.states import JobStatus
from api.storage import ObjectStore
from api.subjects.repository import open_work
from api.work import repository as work
from api.work.service import request_stop
from api.work.states import Request, WorkState
from difftune_core.config.card import BaseModelCard
from difftune_core.config.transfer import config_digest

_MANIFEST = "manifest.json"


def request_pause(session: Session, job: Job) -> None:
    """Pause at once what does not run; request of the holder of what does that it saves and lets go.

    Raises:
        ConflictError: `job_not_pausable`; its status says why.
    """
    item = open_work(session, job.id)
    session.refresh(job, with_for_update=True)
    if item is not None and item.state == WorkState.LEASED and job.status == JobStatus.RUNNING:
        request_stop(item, Request.PAUSE)
        move(session, job, JobStatus.PAUSING, "Pausing: the trainer saves a checkpoint and ends")
    elif item is not None and job.status in {JobStatus.QUEUED, JobStatus.RESUMING}:
        request_stop(item)
        lifecycle.paused(session, job)
    else:
        kind = NotYetError if job.status == JobStatus.VALIDATING_FILES else ConflictError
        raise kind("job_not_pausable", f"Job {job.id} is {job.status} and cannot be paused.")


def request_resume(session: Session, job: Job, store: ObjectStore, card: BaseModelCard | None) -> None:
    """Queue a paused job again. `card` is its base model's as it is now, None where there is none any more.

    Raises:
        ConflictError: `job_not_resumable`, it is not paused; `resume_mismatch`, with the `fields` that differ from when
            it was submitted: the result would be of neither.
    """
    item = repository.last_work(session, job.id)
    session.refresh(job, with_for_update=True)
    if item is None or job.status != JobStatus.PAUSED:
        kind = NotYetError if job.status == JobStatus.PAUSING else ConflictError
        raise kind("job_not_resumable", f"Job {job.id} is {job.status}; only a paused job can be resumed.")
    differing = _differing(session, job, store, card)
    if differing:
        message = f"Job {job.id} cannot go on: {', '.join(differing)} changed since it was submitted or are gone."
        raise ConflictError("resume_mismatch", message, fields=differing)
    work.reopen(session, item)
    move(session, job, JobStatus.RESUMING, "Resuming: waiting for a worker")


def _differing(session: Session, job: Job, store: ObjectStore, card: BaseModelCard | None) -> list[str]:
    """Name what is not as it was when the job was saved. The trainer compares the images themselves."""
    identity = _saved_identity(session, job, store)
    expected = {job.base_digest, identity.get("base_model")} - {None}
    differing = set()
    if card is None or expected - {card.digest}:
        differing.add("model")
    if job.start_checkpoint and session.get(Checkpoint, job.start_checkpoint) is None:
        differing.add("model")
    stated = config_digest(job.transfer)
    if identity.get("config", stated) != stated:
        differing.add("config")
    for param, id_ in (("training_file", job.training_file), ("validation_file", job.validation_file)):
        dataset = session.get(Dataset, id_) if id_ else None
        if id_ and (dataset is None or dataset.deleted_at is not None):
            differing.add(param)
    if not retention.is_made(session, job.retention_set):
        differing.add("retention_set")
    return sorted(differing)


def _saved_identity(session: Session, job: Job, store: ObjectStore) -> dict[str, str]:
    """Return what the newest readable checkpoint says of the run that it belongs to; empty without one."""
    for checkpoint in lifecycle.resumable_checkpoints(session, job.id):
        try:
            identity = json.loads(b"".join(store.read(_manifest_key(checkpoint))))["identity"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue  # the worker passes over it too
        return dict(identity)
    return {}


def _manifest_key(checkpoint: Checkpoint) -> str:
    return next(file.key for file in checkpoint.stored if file.filename == _MANIFEST)
