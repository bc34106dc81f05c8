from __future__ import annotations

import json
from typing import Literal

from sqlalchemy.orm import Session

from api.checkpoints import repository
from api.errors import ConflictError, InvalidInputError, NotFoundError, NotYetError, not_found
from api.jobs import repository as jobs
from api.jobs.models import Checkpoint, Job
from api.jobs.states import FINAL
from api.schemas import finite
from api.storage import ObjectStore, StoredFile
from api.subjects.kinds import refuse_used
from difftune_core.config.families import rules_of_config
from difftune_core.config.original_fit import how_to_load, unlike_original

Format = Literal["safetensors", "diffusers", "original", "single_file"]
_MODEL = "model.safetensors"
_CONFIG = "config.json"
_SINGLE_FILE = "single_file"


def get(session: Session, tenant_id: str, checkpoint_id: str, *, lock: Literal["write"] | None = None) -> Checkpoint:
    """The tenant's checkpoint.

    Raises:
        NotFoundError: there is none.
    """
    checkpoint = repository.find(session, tenant_id, checkpoint_id, lock=lock)
    if checkpoint is None:
        raise not_found("checkpoint", checkpoint_id)
    return checkpoint


def step_of_cursor(session: Session, job: Job, after: str) -> int:
    """The step of the checkpoint that a list of the job's checkpoints goes on after.

    Raises:
        InvalidInputError: it is none of the job's.
    """
    checkpoint = repository.find(session, job.tenant_id, after)
    if checkpoint is None or checkpoint.job_id != job.id:
        message = f"{after!r} is no checkpoint of {job.id}."
        raise InvalidInputError("invalid_cursor", message, param="after", pointer=None)
    return checkpoint.step


def metrics_at(session: Session, checkpoint: Checkpoint, job: Job) -> dict[str, float | None]:
    """The values at the checkpoint's step; those of another would pass for its own."""
    found = jobs.metrics_at(session, job.id, checkpoint.step)
    return {name: finite(value) for name, value in found.items()}


def download(
    session: Session, store: ObjectStore, checkpoint: Checkpoint, format_: Format
) -> tuple[StoredFile, str | None]:
    """The file that holds the checkpoint's weights in a format, and what whoever takes it must know.

    Raises:
        ConflictError: it is not there yet; or in the original code it would be another model, and why.
        NotFoundError: this step has none, and says which have; or the job makes none in this format.
    """
    job = session.get_one(Job, checkpoint.job_id)
    name = f"{job.suffix or job.model}-{job.id}-step-{checkpoint.step}"
    if format_ == "safetensors":
        return _file(checkpoint, _MODEL).called(f"{name}.safetensors"), None
    if format_ == "original":
        note = _as_original(store, checkpoint, job)
        return _file(checkpoint, _MODEL).called(f"{name}-original.safetensors"), note
    exports = repository.exports(session, job.id, f"export_{format_}")
    if checkpoint.step not in exports:
        raise _no_export(checkpoint, job, format_, sorted(exports))
    export = exports[checkpoint.step].stored
    suffix = "".join(export.filename.partition(".")[1:])
    shown = f"{name}-{'controlnet' if format_ == _SINGLE_FILE else format_}{suffix}"
    return export.called(shown), None


def _file(checkpoint: Checkpoint, name: str) -> StoredFile:
    file = next((file for file in checkpoint.stored if file.filename == name), None)
    if file is None:
        raise ConflictError("checkpoint_not_ready", f"{name} of {checkpoint.id} is not in the store.")
    return file


def _as_original(store: ObjectStore, checkpoint: Checkpoint, job: Job) -> str:
    """Return how to load the weights in the original DiT code."""
    if why := rules_of_config(job.transfer).no_format.get("original"):
        raise ConflictError("export_not_possible", why.format(job=job.id))
    config = json.loads(b"".join(store.read(_file(checkpoint, _CONFIG).key)))
    if why := unlike_original(config):
        message = f"{checkpoint.id} would load in the original DiT code and draw other images. {why}"
        raise ConflictError("export_not_possible", message)
    return how_to_load(config)


def delete(session: Session, tenant_id: str, checkpoint_id: str) -> list[str]:
    """Delete a checkpoint of a job that has ended; keys to delete after the commit.

    Raises:
        NotFoundError: there is none.
        ConflictError: its job may go on from it or has it as its result, an analysis looks at it, or a job begins with
            it.
    """
    job_id = get(session, tenant_id, checkpoint_id).job_id
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    checkpoint = get(session, tenant_id, checkpoint_id, lock="write")  # who is about to name it is waited for
    if job.status not in FINAL:
        message = f"Job {job.id} is {job.status} and may go on from {checkpoint_id}."
        raise NotYetError("checkpoint_in_use", message, jobs=[job.id])
    if job.fine_tuned_model == checkpoint_id:
        message = f"{checkpoint_id} is the result of job {job.id}; delete the job to be rid of both."
        raise ConflictError("checkpoint_in_use", message, jobs=[job.id])
    refuse_used(session, tenant_id, [checkpoint_id], "checkpoint_in_use", f"The checkpoint {checkpoint_id} is")
    if job.best_checkpoint == checkpoint_id:
        job.best_checkpoint = None
    return repository.remove(session, checkpoint)


def _no_export(checkpoint: Checkpoint, job: Job, format_: Format, steps: list[int]) -> NotYetError | NotFoundError:
    if why := rules_of_config(job.transfer).no_format.get(format_):
        return NotFoundError("export_not_found", why.format(job=job.id), steps=[])
    if job.status not in FINAL and not steps:
        message = f"Job {job.id} is {job.status} and has no {format_} export yet; it makes one of its result."
        return NotYetError("export_not_ready", message)
    there_are = f"steps with one: {', '.join(map(str, steps))}" if steps else "the job has none"
    message = f"There is no {format_} export of step {checkpoint.step} ({there_are})."
    return NotFoundError("export_not_found", message, steps=steps)
