from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from api.jobs.models import Job, JobFile, Metric
from api.jobs.openai import refuse_legacy, without_auto
from api.jobs.states import JobStatus
from api.schemas import Listed, MetadataKey, MetadataValue, Out, Resolved, seconds
from api.work.models import Attempt
from difftune_core.config import TransferConfig

_MAX_METADATA = 16


class JobCreate(TransferConfig):
    """A transfer config, and what it is run on."""

    training_file: Annotated[str, Field(min_length=1, max_length=64)]
    """Id of the data set to tune on."""
    validation_file: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Id of the held-out data set that the result is judged against."""
    suffix: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")] | None = None
    """Goes into the names of the files."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=_MAX_METADATA)] | None = None
    """Up to 16 pairs of your own; lists can be filtered by them."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Higher first, among your own jobs."""
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None
    """Not supported; none are taken, because OpenAI's clients may say so."""
    hyperparameters: Annotated[Any, Field(deprecated=True)] = None
    """OpenAI's legacy field. Leave it out: they belong to `method`."""

    _auto = model_validator(mode="before")(without_auto)
    _legacy = field_validator("hyperparameters")(refuse_legacy)

    def transfer_config(self) -> TransferConfig:
        """The config alone; what was left out stays left out."""
        given = self.model_dump(include=set(TransferConfig.model_fields), exclude_unset=True)
        return TransferConfig.model_validate(given)


class JobError(Out):
    """Why a job failed."""

    code: str
    message: str
    param: str | None
    """The field or file at fault."""


class StatusDetails(Out):
    """Finer than the status; phases may be added."""

    phase: str | None
    step: int
    total_steps: int
    done: int | None
    """Of the phase's own units (steps, images)."""
    total: int | None
    queue_position: int | None
    """Among your own jobs that wait: 1 is the next of them. Tenants take turns, so it says nothing of others."""
    steps_per_second: float | None
    slot_released: bool
    """Whether a paused job has given its GPU (or its place on the CPU) to others."""
    latest_checkpoint: str | None
    """Id of the checkpoint with the highest step: where a resume goes on, unless it is damaged."""


class JobRetentionSet(Out):
    """The images of the base model that are replayed."""

    id: str | None
    """Where the job names a retention set; null where the trainer samples it."""
    digest: str
    """Content address: equal for equal base model and settings."""


class AttemptOut(Out):
    """One run of the job on a worker. A lost or preempted one is followed by another."""

    attempt: int
    worker_id: str
    """`worker_1` is the job's first, and so on: the same where the job ran on the same one."""
    started_at: int
    ended_at: int | None
    start_step: int | None
    end_step: int | None
    reason: str | None
    """How it ended; null while it runs."""
    resumed: Literal["exact", "continued"] | None
    """`exact`: it went on from a checkpoint to the byte as if there had been no stop. `continued`: something that
    changes results did change. Null where it began anew, or has not loaded its checkpoint yet."""
    changed: list[str]
    """What changed where it was continued: `num_threads`, `torch`, `processor`, latent caches."""


class JobOut(Listed):
    """A fine-tuning job: a superset of OpenAI's."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    status: JobStatus
    status_details: StatusDetails
    created_at: int
    started_at: int | None
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    """Id of the last checkpoint, once succeeded; of the best one where `evaluation.deliver` says so."""
    best_checkpoint: str | None
    """Id of the best checkpoint so far, by `evaluation.best_metric`."""
    training_file: str
    validation_file: str | None
    retention_set: JobRetentionSet | None
    """Null for methods that use none."""
    method: Resolved
    control: Resolved | None
    """Of a ControlNet; null for base models that draw classes."""
    evaluation: Resolved
    checkpoints: Resolved
    resources: Resolved
    seed: int
    num_threads: int | None
    schema_version: int
    suffix: str | None
    metadata: dict[str, str] | None
    priority: int
    attempts: list[AttemptOut]
    recoveries: int
    result_files: list[str]
    error: JobError | None
    organization_id: str
    """The tenant."""
    hyperparameters: dict[str, Any]
    """OpenAI's legacy field; `method` says all."""
    trained_tokens: None = None
    integrations: None = None


class MetricOut(Listed):
    """One value of a series."""

    object: Literal["fine_tuning.job.metric"] = "fine_tuning.job.metric"
    name: str
    step: int
    value: float | None
    """Null where it was not finite."""
    created_at: int


class ReportOut(Listed):
    """A file of the evaluation."""

    object: Literal["fine_tuning.job.report"] = "fine_tuning.job.report"
    kind: str
    """`report_json`, `report_html` or `samples`."""
    step: int
    filename: str
    content_type: str
    bytes: int
    sha256: str
    created_at: int
    url: str
    """Where its bytes are, with your key."""


def job_out(
    job: Job,
    *,
    attempts: list[Attempt],
    files: list[JobFile],
    queue_position: int | None = None,
    latest_checkpoint: str | None = None,
) -> JobOut:
    config = job.transfer
    shown = config.model_dump(mode="json")
    batch_size = config.method.hyperparameters.batch_size
    return JobOut(
        id=job.id,
        status=JobStatus(job.status),
        status_details=_details(job, queue_position, latest_checkpoint),
        created_at=int(job.created_at),
        started_at=seconds(job.started_at),
        finished_at=seconds(job.finished_at),
        estimated_finish=_estimated_finish(job),
        model=job.model,
        fine_tuned_model=job.fine_tuned_model,
        best_checkpoint=job.best_checkpoint,
        training_file=job.training_file,
        validation_file=job.validation_file,
        retention_set=_retention_set(job),
        method=shown["method"],
        control=shown["control"],
        evaluation=shown["evaluation"],
        **config.model_dump(include={"checkpoints", "resources", "seed", "num_threads", "schema_version"}),
        suffix=job.suffix,
        metadata=job.metadata_,
        priority=job.priority,
        attempts=attempts_out(attempts),
        recoveries=job.recoveries,
        result_files=[file.id for file in files],
        error=_error(job),
        organization_id=job.tenant_id,
        hyperparameters={"batch_size": batch_size, "n_epochs": "auto", "learning_rate_multiplier": "auto"},
    )


def attempts_out(attempts: list[Attempt]) -> list[AttemptOut]:
    """In their order. Workers are numbered: their names are of the machines, which tenants share."""
    workers = list(dict.fromkeys(attempt.worker_id for attempt in attempts))
    names = {worker_id: f"worker_{number}" for number, worker_id in enumerate(workers, start=1)}
    return [_attempt_out(number, attempt, names[attempt.worker_id]) for number, attempt in enumerate(attempts, start=1)]


def _attempt_out(number: int, attempt: Attempt, worker: str) -> AttemptOut:
    return AttemptOut(
        attempt=number,
        worker_id=worker,
        started_at=int(attempt.started_at),
        ended_at=seconds(attempt.ended_at),
        start_step=attempt.start_step,
        end_step=attempt.end_step,
        reason=attempt.reason,
        resumed=None if attempt.changed is None else "continued" if attempt.changed else "exact",
        changed=attempt.changed or [],
    )


def metric_out(metric: Metric) -> MetricOut:
    return MetricOut(
        id=f"{metric.name}:{metric.step}",
        name=metric.name,
        step=metric.step,
        value=finite(metric.value),
        created_at=int(metric.created_at),
    )


def report_out(file: JobFile) -> ReportOut:
    return ReportOut(
        id=file.id,
        kind=file.kind,
        step=file.step,
        filename=file.filename,
        content_type=file.content_type,
        bytes=file.bytes,
        sha256=file.sha256,
        created_at=int(file.created_at),
        url=f"/v1/files/{file.id}/content",
    )


def finite(value: float | None) -> float | None:
    """JSON has no infinities; SQLite keeps no NaN."""
    return value if value is not None and abs(value) < float("inf") else None


def _details(job: Job, queue_position: int | None, latest_checkpoint: str | None) -> StatusDetails:
    return StatusDetails(
        phase=job.phase,
        step=job.step,
        total_steps=job.total_steps,
        done=job.phase_done,
        total=job.phase_total,
        queue_position=queue_position,
        steps_per_second=finite(job.steps_per_second),
        slot_released=job.status == JobStatus.PAUSED,
        latest_checkpoint=latest_checkpoint,
    )


def _estimated_finish(job: Job) -> int | None:
    if job.status != JobStatus.RUNNING or not finite(job.steps_per_second):
        return None
    assert job.steps_per_second is not None
    return int(time.time() + (job.total_steps - job.step) / job.steps_per_second)


def _retention_set(job: Job) -> JobRetentionSet | None:
    return JobRetentionSet(id=job.retention_set, digest=job.retention_digest) if job.retention_digest else None


def _error(job: Job) -> JobError | None:
    if job.error_code is None:
        return None
    return JobError(code=job.error_code, message=job.error_message or "", param=job.error_param)
