"""The life of a job as the API and its data sets decide it; what workers decide is in `api.jobs.lifecycle`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.errors import ConflictError, InvalidInputError
from api.ids import new_id
from api.jobs import events, images, repository, retention
from api.jobs.beginnings import Beginning
from api.jobs.models import Job
from api.jobs.moves import cancelled, failed, move
from api.jobs.states import JobStatus
from api.retention_sets.models import RetentionArtifact, RetentionSet
from api.subjects.repository import find, open_work
from api.subjects.states import Status
from api.work import service as work
from api.work.repository import most_slots
from api.work.states import Slot, WorkKind, WorkState
from difftune_core.config.course import as_stored, closed, is_open, told_of_length
from difftune_core.config.evaluation import UNMEASURED, told_unmeasured
from difftune_core.config.families import rules_of_config
from difftune_core.config.transfer import MAX_CLASSES, TransferConfig
from difftune_core.hooks import TaskError

_NAMED_CLASSES = 10
_NAMES = {"training_file": "training", "validation_file": "validation"}


@dataclass(frozen=True)
class Submission:
    """A job as asked for, with its config resolved."""

    config: TransferConfig
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    metadata: dict[str, str] | None = field(default=None)
    priority: int = 0
    base_digest: str | None = None
    """Digest of the base model's card."""
    beginning: Beginning | None = None
    """The checkpoint that the job begins with."""


def create(session: Session, tenant_id: str, asked: Submission) -> Job:
    """A new job: `queued` when its data sets are ready, else `validating_files`.

    Raises:
        InvalidInputError: a data set or the retention set is not there or of another form, the two data sets have
            different classes, one has too many, or the retention set is of another base model.
        ConflictError: a data set is invalid, or the retention set could not be made.
        TaskError: the steps that epochs become do not go together with other settings.
    """
    named = {"training_file": asked.training_file, "validation_file": asked.validation_file}
    in_order = sorted((id_, param) for param, id_ in named.items() if id_)  # one order of locks for all submissions
    used = {param: _usable(session, tenant_id, param, id_) for id_, param in in_order}
    _check_forms(used, asked.config)
    _check_pair(used["training_file"], used.get("validation_file"))
    if excess := _excess_of_classes(used["training_file"]):
        raise InvalidInputError("too_many_classes", excess, param="training_file")
    retained = retention.chosen(session, tenant_id, asked.config, asked.base_digest)
    job = _row(tenant_id, asked, retained)
    session.add(job)
    session.flush()
    _tell_beginning(session, job)
    if retained and retained.status != Status.SUCCEEDED:
        events.append(session, job, "message", f"Waiting for the retention set {retained.id}")
    _queue_if_ready(session, job)
    return job


def _row(tenant_id: str, asked: Submission, retained: RetentionSet | None) -> Job:
    config = asked.config
    return Job(
        id=new_id("ftjob"),
        tenant_id=tenant_id,
        status=JobStatus.VALIDATING_FILES,
        model=config.model,
        config=as_stored(config),
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        retention_set=retained.id if retained else None,
        retention_digest=retention.digest_of(config, asked.base_digest, retained),
        base_digest=asked.base_digest,
        start_checkpoint=asked.beginning.checkpoint.id if asked.beginning else None,
        lineage=asked.beginning.lineage if asked.beginning else None,
        suffix=asked.suffix,
        metadata_=asked.metadata,
        priority=asked.priority,
        total_steps=0 if is_open(config) else config.method.hyperparameters.max_steps,
        created_at=time.time(),
    )


def _slots_of(job: Job) -> int:
    """GPU slots of one worker that the job takes."""
    return job.transfer.resources.gpus


def _tell_beginning(session: Session, job: Job) -> None:
    events.append(session, job, "message", f"Created fine-tuning job: {job.id}")
    message = f"Validating training file: {job.training_file}"
    if job.validation_file:
        message += f" and validation file: {job.validation_file}"
    events.append(session, job, "status", message, data={"status": job.status})
    if job.validation_file == job.training_file:
        message = "The validation file is the training file: the result is judged by images that it was trained on."
        events.append(session, job, "message", message, level="warn")
    asked = _slots_of(job)
    if asked > 1 and asked > (most := most_slots(session)):
        message = (
            f"No worker is known that has {asked} GPU slots (the most that one has: {most}); the job waits for one."
        )
        events.append(session, job, "message", message, level="warn")


def dataset_settled(session: Session, dataset: Dataset) -> None:
    """Move on the jobs that waited for this data set, in the transaction that ends its validation.

    Whoever commits rings afterwards (`api.queue.ring`).
    """
    session.flush()
    for job in repository.waiting_for(session, dataset.id):
        named = {"training_file": job.training_file, "validation_file": job.validation_file}
        if dataset.status == DatasetStatus.INVALID:
            _fail_invalid(session, job, next(param for param, id_ in named.items() if id_ == dataset.id), dataset)
        elif dataset.id == job.training_file and (excess := _excess_of_classes(dataset)):
            failed(session, job, code="too_many_classes", param="training_file", message=excess)
        elif wrong := _wrong_form(rules_of_config(job.transfer).data_form, dataset):
            param = next(param for param, id_ in named.items() if id_ == dataset.id)
            failed(session, job, code="wrong_dataset_form", param=param, message=wrong)
        elif dataset.status == DatasetStatus.READY:
            _queue_or_fail(session, job)


def retention_set_settled(session: Session, artifact: RetentionArtifact) -> None:
    """Move on the jobs that waited for these images, in the transaction that ends their making. As above."""
    session.flush()
    for job in repository.waiting_for_retention(session, artifact.id):
        if artifact.status == Status.SUCCEEDED:
            _queue_or_fail(session, job)
            continue
        message = f"The retention set {job.retention_set} could not be made: {artifact.error_message}"
        failed(session, job, code="retention_set_failed", param=retention.field_of(job.transfer), message=message)


def request_cancel(session: Session, job: Job) -> None:
    """Cancel at once what does not run; request it of the holder of what does. Checkpoints stay.

    Raises:
        ConflictError: the job is final, or is being cancelled already.
    """
    item = open_work(session, job.id)
    session.refresh(job, with_for_update=True)
    if item is not None and item.state == WorkState.LEASED and job.status in {JobStatus.RUNNING, JobStatus.PAUSING}:
        work.request_stop(item)
        move(session, job, JobStatus.CANCELLING, "Cancelling: the trainer saves a checkpoint and ends")
        return
    waiting = {JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.PAUSED, JobStatus.RESUMING}
    if job.status not in waiting:
        raise ConflictError("job_not_cancellable", f"Job {job.id} is {job.status} and cannot be cancelled.")
    work.request_stop(item)
    cancelled(session, job)


def _usable(session: Session, tenant_id: str, param: str, dataset_id: str) -> Dataset:
    """Lock a usable data set: a validation that ends meanwhile sees the new job, or the new job sees its end."""
    found = find(session, Dataset, tenant_id, dataset_id, lock=True)
    if found is None:
        raise InvalidInputError("dataset_not_found", f"There is no data set {dataset_id!r}.", param=param)
    if found.status == DatasetStatus.INVALID:
        raise ConflictError(
            "dataset_invalid",
            f"The {_NAMES[param]} data set {dataset_id} is invalid: {found.error_message or 'see its report'}",
            param=param,
            pointer=f"#/{param}",
            report_url=_report_url(dataset_id),
        )
    return found


def _report_url(dataset_id: str) -> str:
    return f"/v1/datasets/{dataset_id}/report"


def _wrong_form(wanted: str, dataset: Dataset) -> str | None:
    """Return what to say of a set that has been validated and is not of the form that the base model takes."""
    if dataset.form in {None, wanted}:
        return None
    names = {
        "captioned": "captioned images (metadata.jsonl, or a .txt beside each image)",
        "class_folders": "class folders (<class>/<image>)",
    }
    return f"The data set {dataset.id} holds {names[dataset.form]}; this base model takes {names[wanted]}."


def _check_forms(used: dict[str, Dataset], config: TransferConfig) -> None:
    for param, dataset in used.items():
        if wrong := _wrong_form(rules_of_config(config).data_form, dataset):
            raise InvalidInputError("wrong_dataset_form", wrong, param=param, report_url=_report_url(dataset.id))


def _check_pair(training: Dataset, validation: Dataset | None) -> None:
    """Refuse a pair of ready sets that do not fit; the trainer looks at sets that are validated later."""
    if validation is None or training.class_names is None or validation.class_names is None:
        return
    differing = sorted(set(training.class_names) ^ set(validation.class_names))
    if differing:
        more = f" and {len(differing) - _NAMED_CLASSES} more" if len(differing) > _NAMED_CLASSES else ""
        message = f"The classes of the two files differ: {', '.join(differing[:_NAMED_CLASSES])}{more}."
        raise InvalidInputError("class_mismatch", message, param="validation_file")


def _excess_of_classes(training: Dataset) -> str | None:
    """Return what to say of a set that has been validated and has too many classes."""
    count = len(training.class_names or ())
    if count <= MAX_CLASSES:
        return None
    return f"The training data set {training.id} has {count} classes; a model can be tuned to at most {MAX_CLASSES}."


def _all_ready(session: Session, dataset_ids: list[str]) -> bool:
    query = select(Dataset.status).where(Dataset.id.in_(dataset_ids))
    return set(session.scalars(query)) == {DatasetStatus.READY}


def _queue_if_ready(session: Session, job: Job) -> None:
    needed = [id_ for id_ in (job.training_file, job.validation_file) if id_]
    if not _all_ready(session, needed) or not retention.is_made(session, job.retention_set):
        return
    _close(session, job)
    _tell_unmeasured(session, job)
    work.enqueue(
        session,
        WorkKind.TRAIN,
        job.id,
        tenant_id=job.tenant_id,
        slot=Slot.GPU,
        slots=_slots_of(job),
        priority=job.priority,
        traceparent=job.traceparent,
    )
    move(session, job, JobStatus.QUEUED, "Files validated, moving job to queued state")


def _close(session: Session, job: Job) -> None:
    """Make steps of epochs, now that the images are counted: what is stored from here on is what runs.

    Raises:
        TaskError: the steps do not go together with other settings.
    """
    if job.transfer.method.hyperparameters.epochs is None:
        return
    count = images.of(session, job).trained
    assert count is not None, "its data set is ready"
    if is_open(job.transfer):
        job.store(closed(job.transfer, count))
    events.append(session, job, "message", told_of_length(job.transfer, count))


def _queue_or_fail(session: Session, job: Job) -> None:
    """Queue a job that was submitted before, as `_queue_if_ready` does, or fail it."""
    try:
        _queue_if_ready(session, job)
    except TaskError as error:
        failed(session, job, code=error.code, param=error.param, message=str(error))


def _tell_unmeasured(session: Session, job: Job) -> None:
    """Warn of settings that go by a figure which so few held-out images cannot give."""
    evaluation = job.transfer.evaluation
    count = images.of(session, job).held_out
    message = None if count is None else told_unmeasured(evaluation, count)
    if message is not None:
        data = {"code": UNMEASURED, "metric": evaluation.best_metric, "param": "evaluation.best_metric"}
        events.append(session, job, "message", message, level="warn", data=data)


def _fail_invalid(session: Session, job: Job, param: str, dataset: Dataset) -> None:
    which = f"The {_NAMES[param]} data set {dataset.id} ({dataset.filename})"
    message = f"{which} is invalid: {dataset.error_message or 'see its report'}"
    failed(session, job, code="dataset_invalid", param=param, message=message)
