from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from api.jobs.models import Metric
from api.jobs.openai import refuse_legacy, without_auto
from api.jobs.states import JobStatus
from api.schemas import Listed, MetadataKey, MetadataValue, Out, Resolved, finite
from api.subjects.models import ResultFile
from api.subjects.schemas import Failure
from difftune_core.config.origin import Ancestor, BeginningId
from difftune_core.config.transfer import TransferConfig

_MAX_METADATA = 16


class JobCreate(TransferConfig):
    """A transfer config, and what it is run on."""

    model: BeginningId
    """Id of the base model, as `GET /v1/models` lists it, or of a checkpoint of your own to begin with: `ckpt_...`,
    such as the `fine_tuned_model` of a job that has succeeded."""
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
    """Integrations are not supported; an empty list is taken, because OpenAI's clients may send one."""
    hyperparameters: Annotated[Any, Field(deprecated=True)] = None
    """OpenAI's legacy field. Leave it out: they belong to `method`."""

    _auto = model_validator(mode="before")(without_auto)
    _legacy = field_validator("hyperparameters")(refuse_legacy)

    def stated(self) -> dict[str, Any]:
        """The config's fields alone; what was left out stays left out."""
        return self.model_dump(include=set(TransferConfig.model_fields), exclude_unset=True)


class JobError(Failure):
    """Why a job failed."""

    param: str | None
    """The field or file at fault."""


class StatusDetails(Out):
    """Finer than the status; phases may be added."""

    phase: str | None
    step: int
    total_steps: int
    done: int | None
    """Units of the phase (steps, images) that are done."""
    total: int | None
    queue_position: int | None
    """Place among your own jobs that wait, the next being 1. Tenants take turns, so it says nothing of others."""
    steps_per_second: float | None
    slot_released: bool
    """Whether a paused job has given its GPU (or its place on the CPU) to others."""
    latest_checkpoint: str | None
    """Id of the checkpoint with the highest step: where a resume goes on, unless it is damaged."""


class JobRetentionSet(Out):
    """The images of the base model that are replayed."""

    id: str | None
    """Id of the retention set that the job names; null where the trainer samples it."""
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
    """How the attempt ended; null while it runs."""
    resumed: Literal["exact", "continued"] | None
    """`exact`: it went on from a checkpoint to the byte as if there had been no stop. `continued`: something that
    changes results did change. Null where it began anew, or has not loaded its checkpoint yet."""
    changed: list[str]
    """What changed where the job was continued: `num_threads`, `torch`, `processor`, latent caches."""


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
    """The model as it was asked for: the id of a base model, or of the checkpoint that the job began with."""
    base_model: str
    """Id of the base model."""
    lineage: list[Ancestor]
    """The checkpoint that the job began with, the one that its own job began with, and so on; empty for a job that
    began with a base model."""
    fine_tuned_model: str | None
    """Id of the last checkpoint, once succeeded; of the best one where `evaluation.deliver` says so."""
    best_checkpoint: str | None
    """Id of the best checkpoint so far, by `evaluation.best_metric`."""
    training_file: str
    validation_file: str | None
    retention_set: JobRetentionSet | None
    """Retention set of the job; null for methods that use none."""
    method: Resolved
    control: Resolved | None
    """The condition of a ControlNet; null for base models that draw classes."""
    evaluation: Resolved
    samples: Resolved
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
    """Ids of reports and exports; sample images that were drawn on the way have a list of their own."""
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
    """Value of the series; null where it was not finite."""
    created_at: int


class ReportOut(Listed):
    """A file of the evaluation, or of sample images."""

    object: Literal["fine_tuning.job.report"] = "fine_tuning.job.report"
    kind: str
    """`report_json`, `report_html`, `samples` (of the result), or `sample` (drawn on the way)."""
    step: int
    filename: str
    content_type: str
    bytes: int
    sha256: str
    created_at: int
    url: str
    """Where the file's bytes are, with your key."""


def metric_out(metric: Metric) -> MetricOut:
    return MetricOut(
        id=f"{metric.name}:{metric.step}",
        name=metric.name,
        step=metric.step,
        value=finite(metric.value),
        created_at=int(metric.created_at),
    )


def report_out(file: ResultFile) -> ReportOut:
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
